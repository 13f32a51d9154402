// Dispatches from Node, waits for the end and prints what became of it:
//
//   npm install
//   node dispatch.mjs '{"uptime": 10, "df -h": 5}' web-1 web-2
//
// The commands are a JSON object of command and priority; the highest priority runs
// first. Without a host every one that is online is meant. REDIS_URL names the Redis.
// Status: 0 every host is done, 1 some host is not, or there is none, 2 the request was
// rejected.
import { createClient } from 'redis';

const EVENTS = '{muster}:events';
const db = createClient({ url: process.env.REDIS_URL ?? 'redis://127.0.0.1:6379' });
db.on('error', (err) => console.error('Redis:', err.message)); // it connects again by itself

// Asks for a dispatch. Returns the request's id and where its events begin.
async function dispatch(commands, hosts) {
  const newest = await db.xRevRange(EVENTS, '+', '-', { COUNT: 1 });
  const fields = { commands }; // JSON, as it is
  if (hosts.length > 0) fields.hosts = JSON.stringify(hosts);
  const request = await db.xAdd('muster:requests', '*', fields);
  return { request, after: newest[0]?.id ?? '0' };
}

// Follows the events until the set of the request is closed; returns that event, or the
// one that says why the request was rejected.
async function end({ request, after }) {
  for (;;) {
    const reply = await db.xRead({ key: EVENTS, id: after }, { COUNT: 100, BLOCK: 1000 });
    for (const { id, message: event } of reply?.[0].messages ?? []) {
      after = id;
      if (event.request !== request) continue;
      if (event.type === 'request.rejected' || event.type === 'task.closed') return event;
    }
  }
}

await db.connect();
const [commands, ...hosts] = process.argv.slice(2);
const event = await end(await dispatch(commands, hosts));
if (event.type === 'request.rejected') {
  console.error('rejected:', event.reason);
  process.exitCode = 2;
} else {
  const number = event.key; // none was named, so it is AC and the request's id
  console.log(number, 'is closed');
  for (const [host, state] of Object.entries(await db.hGetAll(`{${number}}:hosts`))) {
    console.log(`${host}\t${state}`);
  }
  for (const { message: r } of await db.xRange(`{${number}}:results`, '-', '+')) {
    console.log(`${r.host}  exit ${r.exit_code}  ${r.command}`);
    process.stdout.write(r.stdout + r.stderr);
  }
  process.exitCode = event.done === event.total && event.total !== '0' ? 0 : 1;
}
await db.close();
