// openai for Node: chat, whole and streamed, responses, and a tool that is run.
import assert from "node:assert";
import OpenAI from "openai";

const client = new OpenAI();
const model = process.env.MODEL;
const messages = [{ role: "user", content: "hello" }];
const whole = await client.chat.completions.create({ model, messages });
assert(whole.choices[0].message.content);
let text = "";
for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
  text += chunk.choices[0]?.delta?.content ?? "";
}
assert(text);
assert(await client.chat.completions.stream({ model, messages }).finalContent());
assert((await client.responses.create({ model, input: "hello" })).output_text);
const parameters = { type: "object", properties: { city: { enum: ["Rome", "Oslo"] } }, required: ["city"] };
const cities = [];
const weather = { name: "weather", parameters, parse: JSON.parse, function: ({ city }) => { cities.push(city); return "sunny"; } };
const tools = [{ type: "function", function: weather }];
const once = { type: "function", function: { name: "weather" } }; // the runner ends with the call
await client.chat.completions.runTools({ model, messages, tools, tool_choice: once, stream: true }).done();
assert(["Rome", "Oslo"].includes(cities[0]));
