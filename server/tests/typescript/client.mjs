// Calls a server with one of the official clients, and prints a JSON report.
//   node client.mjs sdk|client-2025|client-2026 calls|cancel URL ARGUMENTS
// `calls` lists the tools and calls analyzePosition, once with ARGUMENTS and once with invalid arguments; `cancel`
// cancels such a call at its first progress. The session lasts until stdin closes. The token is in MCP_TOKEN.
const [, , kind, action, url, json] = process.argv;

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
const parameters = { name: "analyzePosition", arguments: JSON.parse(json) };
const progress = [];
const report = { server: client.getServerVersion() };

if (action === "calls") {
  report.tools = (await client.listTools()).tools;
  report.answer = await call(parameters, { onprogress: (note) => progress.push(note) });
  report.refusal = await call({ name: "analyzePosition", arguments: { position: { moves: [["B", "Z9"]] } } });
} else {
  const controller = new AbortController();
  const onprogress = (note) => {
    progress.push(note);
    controller.abort();
  };
  try {
    report.answer = await call(parameters, { onprogress, signal: controller.signal });
  } catch (error) {
    report.cancelled = controller.signal.aborted;
    report.error = String(error);
  }
}

console.log(JSON.stringify({ ...report, progress }));
await new Promise((ended) => process.stdin.on("end", ended).resume());
await client.close();
