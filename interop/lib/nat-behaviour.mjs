// What a client's router really does to UDP (RFC 4787), found out with packets: the lab is tested before
// it is used to test with. `node nat-behaviour.mjs` is the client's half: it sends an empty datagram to
// each "ADDRESS PORT" that it reads, and prints what comes.
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { HERE, HERE_2 } from './natlab.mjs';
import { eventually } from './wait.mjs';

/**
 * Resolves with `translates`, whether the client's address is seen at all, `mapping`: "independent" when
 * all who are spoken to see one port, else "dependent", and `filtering`: "independent" when a stranger's
 * datagrams come in.
 */
export async function natBehaviour(client) {
  const [program, args] = client.command(process.execPath, [import.meta.filename]);
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = [];
  createInterface(child.stdout).on('line', (line) => lines.push(line));
  const sockets = await Promise.all([HERE, HERE_2, HERE_2].map(async (address) => {
    const socket = createSocket('udp4').bind(0, address);
    await once(socket, 'listening');
    return socket;
  }));
  const [first, second, stranger] = sockets;
  try {
    const seen = [];
    for (const socket of [first, second]) {
      const { address, port } = socket.address();
      child.stdin.write(`${address} ${port}\n`);
      const [, from] = await once(socket, 'message', { signal: AbortSignal.timeout(5000) });
      seen.push(from);
    }
    // What is sent first comes first, if at all.
    stranger.send('stranger', seen[0].port, seen[0].address);
    first.send('known', seen[0].port, seen[0].address);
    await eventually('an answer to come in', () => lines.includes('known'), { timeoutMs: 5000, everyMs: 20 });
    return {
      translates: seen[0].address !== client.address,
      mapping: seen[0].port === seen[1].port ? 'independent' : 'dependent',
      filtering: lines.includes('stranger') ? 'independent' : 'dependent',
    };
  } finally {
    for (const socket of sockets) socket.close();
    child.stdin.end();
    await once(child, 'exit');
  }
}

if (process.argv[1] === import.meta.filename) {
  const socket = createSocket('udp4').on('message', (text) => console.log(text.toString())).bind(0);
  createInterface(process.stdin)
    .on('line', (line) => {
      const [address, port] = line.split(' ');
      socket.send('', Number(port), address);
    })
    .on('close', () => socket.close());
}
