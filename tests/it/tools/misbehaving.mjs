// A server of tools that misbehaves as it is told, by its arguments and by the tools that are called.
// Plain JSON-RPC in lines over its standard input and output, or over HTTP with --http.

import { spawn } from 'node:child_process';
import { appendFileSync, existsSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';

const HUGE = 50_000_000;

const flags = new Map();
for (const argument of process.argv.slice(2)) {
  const [name, value = ''] = argument.replace(/^--/, '').split('=', 2);
  flags.set(name, value);
}
const number = (name, otherwise) => Number(flags.get(name) ?? otherwise);

let added = 0;

// ---- what it is asked ----

function tools() {
  const named = [
    'echo',
    'hang',
    'freeze',
    'deep',
    'die',
    'huge_first',
    'huge_last',
    'huge_without_id',
    'large',
    'refuse',
    'fail',
    'pid',
    'env',
    'change',
    'ping_us',
  ];
  const many = Array.from({ length: number('tools', 0) }, (_, index) => `tool_${index}`);
  const later = Array.from({ length: added }, (_, index) => `added_${index}`);
  return [...named, ...many, ...later].map((name) => ({
    name,
    description: `Does ${name}`,
    inputSchema: {
      type: 'object',
      properties: name === 'echo' ? { text: { type: 'string', maxLength: 100 } } : {},
      required: name === 'echo' ? ['text'] : [],
    },
  }));
}

function page(cursor) {
  if (flags.has('endless'))
    return {
      tools: [{ name: `page_${cursor ?? 0}`, inputSchema: { type: 'object' } }],
      nextCursor: String(Number(cursor ?? 0) + 1),
    };
  const all = tools();
  const size = number('page', 1000);
  const from = Number(cursor ?? 0);
  const next = from + size;
  return {
    tools: all.slice(from, next),
    ...(next < all.length ? { nextCursor: String(next) } : {}),
  };
}

const text = (text) => ({ content: [{ type: 'text', text }] });

// An answer as it goes over the wire, or nothing.
function answer(message, say) {
  const { id, method, params } = message;
  const result = (result) => JSON.stringify({ jsonrpc: '2.0', id, result });
  switch (method) {
    case 'initialize':
      if (flags.has('silent')) return undefined;
      return result({
        protocolVersion: params.protocolVersion,
        capabilities: { tools: { listChanged: true } },
        serverInfo: { name: 'misbehaving', version: '1' },
      });
    case 'ping':
      return result({});
    case 'tools/list':
      return result(page(params?.cursor));
    case 'tools/call':
      return call(id, params, result, say);
    default:
      return id === undefined
        ? undefined
        : JSON.stringify({
            jsonrpc: '2.0',
            id,
            error: { code: -32601, message: `no method ${method}` },
          });
  }
}

function call(id, params, result, say) {
  switch (params.name) {
    case 'echo':
      return result(text(params.arguments.text));
    case 'hang':
      return undefined;
    case 'freeze':
      for (;;);
    case 'deep':
      return result({
        content: [],
        structuredContent: JSON.parse('['.repeat(200) + ']'.repeat(200)),
      });
    case 'die':
      process.stderr.write('now I die\n');
      process.exit(3);
      break;
    case 'huge_first':
      return result(text('x'.repeat(HUGE)));
    case 'huge_last':
      return JSON.stringify({ result: text('x'.repeat(HUGE)), jsonrpc: '2.0', id });
    case 'huge_without_id':
      return JSON.stringify({ jsonrpc: '2.0', result: text('x'.repeat(HUGE)) });
    case 'large':
      return result(text('x'.repeat(params.arguments.size)));
    case 'fail':
      return result({ ...text('no tool "fail" here'), isError: true });
    case 'pid':
      return result(text(String(process.pid)));
    case 'env':
      return result({ content: [], structuredContent: process.env });
    case 'change':
      added += 1;
      say(JSON.stringify({ jsonrpc: '2.0', method: 'notifications/tools/list_changed' }));
      return result(text('changed'));
    case 'ping_us':
      // So many that a client which keeps them all has no room for anything else.
      for (let index = 0; index < 20_000; index += 1)
        say(JSON.stringify({ jsonrpc: '2.0', id: `ping-${index}`, method: 'ping' }));
      for (let index = 0; index < 20_000; index += 1)
        say(
          JSON.stringify({
            jsonrpc: '2.0',
            method: 'notifications/message',
            params: { level: 'info', data: 'x' },
          }),
        );
      return result(text('pinged'));
    default:
      return JSON.stringify({
        jsonrpc: '2.0',
        id,
        error: { code: -32602, message: `Unknown tool: ${params.name}` },
      });
  }
}

function hear(line, say) {
  if (flags.has('journal')) appendFileSync(flags.get('journal'), `${line}\n`);
  const message = JSON.parse(line);
  if (message.method === undefined) return undefined;
  return answer(message, say);
}

// ---- how it is spoken to ----

function overStdio() {
  const say = (line) => process.stdout.write(`${line}\n`);
  if (flags.has('grandchild')) {
    const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
    writeFileSync(flags.get('grandchild'), `${process.pid} ${child.pid}`);
  }
  if (flags.has('stubborn')) {
    process.on('SIGTERM', () => {});
    setInterval(() => {}, 1000);
  }
  if (flags.has('starts')) appendFileSync(flags.get('starts'), `${process.pid}\n`);
  if (flags.has('dead') || (flags.has('dead-while') && existsSync(flags.get('dead-while')))) {
    process.stderr.write('there is no such folder: /nowhere\n');
    process.exit(4);
  }
  if (flags.has('garbage')) say('Welcome to the server!\n{"jsonrpc": 7}\n[1,2\n\u0000\u0001');
  if (flags.has('flood')) {
    const flood = () => process.stderr.write(`${'all is well '.repeat(20)}\n`.repeat(100));
    setInterval(flood, 1);
    process.stderr.write('z'.repeat(1_000_000));
  }
  createInterface({ input: process.stdin }).on('line', (line) => {
    const reply = hear(line, say);
    if (reply !== undefined) say(reply);
  });
}

function overHttp() {
  const server = createServer((request, response) => {
    if (request.method !== 'POST') {
      response.writeHead(405).end();
      return;
    }
    if (flags.has('token') && request.headers.authorization !== `Bearer ${flags.get('token')}`) {
      response.writeHead(401, { 'WWW-Authenticate': 'Bearer' }).end();
      return;
    }
    let body = '';
    request.on('data', (data) => (body += data));
    request.on('end', () => {
      const reply = hear(body, () => {});
      const isRequest = JSON.parse(body).id !== undefined;
      if (!isRequest) {
        response.writeHead(202).end();
      } else if (reply !== undefined && flags.has('events')) {
        response.writeHead(200, { 'Content-Type': 'text/event-stream' });
        response.end(`event: message\ndata: ${reply}\n\n`);
      } else if (reply !== undefined) {
        response.writeHead(200, { 'Content-Type': 'application/json' }).end(reply);
      }
    });
  });
  server.listen(Number(flags.get('http')), '127.0.0.1', () =>
    console.log(`listening on ${server.address().port}`),
  );
}

if (flags.has('http')) overHttp();
else overStdio();
