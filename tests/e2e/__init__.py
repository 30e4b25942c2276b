"""Real clients against real processes: the OpenAI and groq SDKs, the Node SDK, curl."""
