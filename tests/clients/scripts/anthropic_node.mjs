// @anthropic-ai/sdk: messages, whole and streamed, a call of a tool, and counted tokens.
import assert from "node:assert";
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic();
const model = process.env.MODEL;
const messages = [{ role: "user", content: "hello" }];
const whole = await client.messages.create({ model, max_tokens: 100, messages });
assert(whole.content[0].text);
const stream = client.messages.stream({ model, max_tokens: 100, messages });
assert((await stream.finalMessage()).content[0].text);
assert((await client.messages.countTokens({ model, messages })).input_tokens > 0);
const schema = { type: "object", properties: { city: { enum: ["Rome", "Oslo"] } }, required: ["city"] };
const tools = [{ name: "weather", input_schema: schema }];
const calling = client.messages.stream({ model, max_tokens: 200, messages, tools, tool_choice: { type: "tool", name: "weather" } });
const use = (await calling.finalMessage()).content.at(-1);
assert(use.type === "tool_use" && ["Rome", "Oslo"].includes(use.input.city));
