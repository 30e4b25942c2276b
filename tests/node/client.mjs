// The official Node SDK of OpenAI against the base URL in the arguments. Prints what it saw as one line of JSON; what
// the SDK itself finds wrong ends it with an error. Run by tests/e2e/test_openai_node.py.
import OpenAI, { toFile } from 'openai';

const client = new OpenAI({ baseURL: process.argv[2], apiKey: 'sk-of-the-application', maxRetries: 0 });
const messages = [{ role: 'user', content: 'hello' }];
const tools = [{ type: 'function', function: { name: 'weather', parameters: { type: 'object', properties: {} } } }];
const seen = {};

const chat = await client.chat.completions.create({ model: 'fast', messages, max_tokens: 5 });
seen.chat = chat.choices[0].message.content;

const stream = await client.chat.completions.create({
  model: 'fast',
  messages,
  max_tokens: 12,
  stream: true,
  stream_options: { include_usage: true },
});
seen.stream = { text: '', usage: null };
for await (const chunk of stream) {
  seen.stream.text += chunk.choices[0]?.delta?.content ?? '';
  seen.stream.usage = chunk.usage ?? seen.stream.usage;
}

const called = await client.chat.completions.create({ model: 'fast', messages, tools });
seen.tool = called.choices[0].message.tool_calls[0].function.name;

const embedded = await client.embeddings.create({ model: 'text-embedding-3-small', input: ['one', 'two'] });
seen.embeddings = embedded.data.map((item) => item.embedding.length);

const events = await client.responses.create({ model: 'gpt-4o-mini', input: 'hello', stream: true });
seen.events = [];
for await (const event of events) seen.events.push(event.type);

const content = Buffer.alloc(3_000_000, 'node');
const file = await client.files.create({ file: await toFile(content, 'node.jsonl'), purpose: 'batch' });
const again = await client.files.content(file.id);
seen.file = { bytes: file.bytes, same: Buffer.from(await again.arrayBuffer()).equals(content) };

seen.models = [];
for await (const model of client.models.list()) seen.models.push(model.id);

try {
  await client.chat.completions.create({ model: 'groq/none-for-node', messages });
} catch (error) {
  seen.error = { name: error.constructor.name, status: error.status, code: error.code };
}

const aborted = await client.chat.completions.create({ model: 'fast', messages, stream: true });
for await (const chunk of aborted) {
  aborted.controller.abort();
  break;
}

console.log(JSON.stringify(seen));
