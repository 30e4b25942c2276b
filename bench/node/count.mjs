// Tokens of chat prompts, by the encoding named as the argument. Standard input: one JSON array of messages a line.
// Standard output: one number a line, with what each message and the beginning of the answer add (OpenAI's cookbook,
// "How to count tokens": three a message, three for the answer).
import { createInterface } from "node:readline";

const { countTokens } = await import(`gpt-tokenizer/encoding/${process.argv[2]}`);

for await (const line of createInterface({ input: process.stdin })) {
  let count = 3;
  for (const message of JSON.parse(line)) {
    count += 3 + countTokens(message.role) + countTokens(message.content);
  }
  console.log(count);
}
