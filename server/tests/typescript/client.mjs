// Calls a server with one of the official clients, and prints what came of it as JSON.
//   node client.mjs sdk|client-2025|client-2026 calls|cancel URL ARGUMENTS
// `calls` lists the tools and calls analyzePosition, rightly with ARGUMENTS and wrongly; `cancel` gives up such a
// call when the first progress is heard of. The session lasts until stdin ends. The token is in MCP_TOKEN.
const [, , kind, act, url, json] = process.argv;

const identity = { name: "katago-mcp-tests", version: "1" };
const generations = { "client-2025": { mode: "legacy" }, "client-2026": { mode: { pin: "2026-07-28" } } };

async function connect() {
  const http = { requestInit: { headers: { Authorization: `Bearer ${process.env.MCP_TOKEN}` } } };
  if (kind === "sdk") {
    const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
    const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
    const client = new Client(identity);
    await client.connect(new StreamableHTTPClientTransport(new URL(url), http));
    return { client, call: (params, options) => client.callTool(params, undefined, options) };
  }
  const { Client, StreamableHTTPClientTransport } = await import("@modelcontextprotocol/client");
  const client = new Client(identity, { versionNegotiation: generations[kind] });
  await client.connect(new StreamableHTTPClientTransport(new URL(url), http));
  return { client, call: (params, options) => client.callTool(params, options) };
}

const { client, call } = await connect();
const wanted = { name: "analyzePosition", arguments: JSON.parse(json) };
const progress = [];
const report = { server: client.getServerVersion() };

if (act === "calls") {
  report.tools = (await client.listTools()).tools;
  report.answer = await call(wanted, { onprogress: (note) => progress.push(note) });
  report.refusal = await call({ name: "analyzePosition", arguments: { position: { moves: [["B", "Z9"]] } } });
} else {
  const leaving = new AbortController();
  const onprogress = (note) => {
    progress.push(note);
    leaving.abort();
  };
  try {
    report.answer = await call(wanted, { onprogress, signal: leaving.signal });
  } catch (error) {
    report.cancelled = leaving.signal.aborted;
    report.error = String(error);
  }
}

console.log(JSON.stringify({ ...report, progress }));
await new Promise((ended) => process.stdin.on("end", ended).resume());
await client.close();
