// Vercel's AI SDK: text, whole and streamed, by chat, by responses and by Anthropic's messages, an object, and a tool that is run.
import assert from "node:assert";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, Output, streamText, tool } from "ai";

const at = { baseURL: process.env.OPENAI_BASE_URL, apiKey: process.env.OPENAI_API_KEY };
const name = process.env.MODEL;
const compatible = createOpenAICompatible({ name: "here", ...at, supportsStructuredOutputs: true, includeUsage: true });
const models = [compatible(name), createOpenAI(at).chat(name), createOpenAI(at).responses(name), createAnthropic(at)(name)];
const prompt = "hello";
const city = jsonSchema({ type: "object", properties: { city: { enum: ["Rome", "Oslo"] } }, required: ["city"] });
const weather = tool({ description: "the weather", inputSchema: city, execute: async ({ city }) => `sunny in ${city}` });
for (const model of models) {
  assert((await generateText({ model, prompt, maxRetries: 0 })).text);
  const stream = streamText({ model, prompt, maxRetries: 0, onError: ({ error }) => { throw error; } });
  assert(await stream.text);
  assert((await stream.usage).outputTokens > 0);
  const called = await generateText({ model, prompt, tools: { weather }, toolChoice: "required", maxRetries: 0 });
  assert(/sunny in (Rome|Oslo)/.test(called.toolResults[0].output));
}
const schema = jsonSchema({
  type: "object", properties: { yes: { type: "boolean" } }, required: ["yes"], additionalProperties: false,
});
const made = await generateText({ model: compatible(name), prompt, output: Output.object({ schema }), maxRetries: 0 });
assert(typeof made.output.yes === "boolean");
