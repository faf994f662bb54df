// Starts somebody else's Bot API server (npm: telegram-test-api), and a proxy between it and the bot:
//
//   octod ──> proxy ──> telegram-test-api <── the test, which plays the user through the server's own client API
//
//   node botapi.mjs FOLDER_OF_THE_PACKAGE      prints `{"bot": PORT, "user": PORT}` when both listen
//
// All messages, edits, deletions, commands and taps are kept and delivered by the server. The proxy only mends where it
// does not answer as https://core.telegram.org/bots/api says:
//
// * getMe: the bot has its own number, and the fields that every bot has (`is_bot`, `can_join_groups` and so on).
// * getUpdates: the server answers at once and ignores `timeout`; an empty answer is held until there is one.
// * getUpdates: the server ignores `offset` and forgets what it gave once; what was not confirmed is given again.
// * callback_query: it lacks `chat_instance`, which every tap has.
// * edit*, deleteMessage and answerCallbackQuery bring `null`; what was done is `true`.
// * sendDocument is not there: a file becomes a message of the server, its caption the text, its name and content in
//   `document`.
// * setMyCommands is not there: it is taken and left.
import http from "node:http";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";

const TelegramServer = createRequire(import.meta.url)(process.argv[2]);
const server = new TelegramServer({ host: "127.0.0.1", storeTimeout: 3600 });
// The constructor takes 0 for "the default"; the system is to choose.
server.config.port = 0;
await server.start();
const upstream = server.server.address().port;

const ME = {
  is_bot: true, can_join_groups: false, can_read_all_group_messages: false, supports_inline_queries: false,
  can_connect_to_business: false, has_main_web_app: false,
};

// Asks the server; brings its status and its answer.
async function ask(path, params) {
  const headers = { "content-type": "application/json" };
  const response = await fetch(`http://127.0.0.1:${upstream}${path}`, { method: "POST", headers, body: JSON.stringify(params) });
  return [response.status, await response.json()];
}

let unconfirmed = [];

async function updates(path, params, gone) {
  if (params.offset !== undefined) unconfirmed = unconfirmed.filter((u) => u.update_id >= params.offset);
  const until = Date.now() + (params.timeout ?? 0) * 1000;
  for (;;) {
    const [status, answer] = await ask(path, {});
    if (!answer.ok) return [status, answer];
    for (const update of answer.result) if (update.callback_query) update.callback_query.chat_instance = "1";
    unconfirmed.push(...answer.result);
    if (unconfirmed.length > 0 || Date.now() >= until || gone()) return [status, { ok: true, result: unconfirmed }];
    await sleep(50);
  }
}

async function file(bot, request, body) {
  const form = await new Response(body, { headers: { "content-type": request.headers["content-type"] } }).formData();
  const { chat_id, caption = "", document, ...params } = Object.fromEntries(form);
  const kept = { file_name: document.name, file_size: document.size, content: await document.text() };
  return ask(`${bot}/sendMessage`, { ...params, chat_id: Number(chat_id), text: caption, document: kept });
}

async function answer(request, body, gone) {
  const [, bot, method] = request.url.match(/^(\/bot[^/]+)\/([A-Za-z]+)$/);
  if (/^sendDocument$/i.test(method)) return file(bot, request, body);
  const params = JSON.parse(body.length ? body : "{}");
  if (/^setMyCommands$/i.test(method)) return [200, { ok: true, result: true }];
  if (/^getUpdates$/i.test(method)) return updates(request.url, params, gone);
  const [status, answer] = await ask(request.url, params);
  if (/^getMe$/i.test(method)) Object.assign(answer.result, ME, { id: parseInt(bot.slice(4)) });
  if (answer.ok && answer.result === null) answer.result = true;
  return [status, answer];
}

const proxy = http.createServer(async (request, response) => {
  const body = Buffer.concat(await request.toArray());
  const [status, result] = await answer(request, body, () => response.destroyed);
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(result));
});
proxy.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ bot: proxy.address().port, user: upstream })));
