// The TURN server for other applications (mode "relay"): coturn's own clients relay through it and learn from
// it what their router does, and nothing it sends ever goes where no client may reach.
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import fs from 'node:fs';
import { after, before, test } from 'node:test';
import { HERE, HERE_6, noNatlab, SRV, SRV_2, SRV_6, startNatlab } from '../lib/natlab.mjs';
import { coturn, noCoturn } from '../lib/programs.mjs';
import { startPublicServer } from '../lib/server.mjs';
import { mint, openTurnClient } from '../lib/turn-client.mjs';
import { eventually } from '../lib/wait.mjs';

const SECRET = 'shared with other applications';
const RELAY_PORTS = '49160-49999';
const PEER_PORT = 3480;

const skip = noNatlab() || noCoturn();
let lab;
let server;
before(async () => {
  if (skip) return;
  lab = await startNatlab();
  server = await startPublicServer(lab, {
    advertise: [SRV, SRV_2, SRV_6],
    turn: { mode: 'relay', shared_secret: SECRET, relay_ports: RELAY_PORTS, allow_peers: ['198.51.100.0/24', '2001:db8:51::/64'] },
  });
});
after(async () => {
  await server?.stop();
  await lab?.close();
});

const CLIENTS = 4;
const MESSAGES = 25; // of each client
const ways = [
  ['channels over UDP', HERE, []],
  ['channels over TCP', HERE, ['-t', '-p', '7800']],
  ['channels over TLS', HERE, ['-t', '-S', '-p', '443']],
  ['indications over UDP', HERE, ['-s']],
  ['from one relayed address to another', HERE, ['-y']],
  ['to IPv6', HERE_6, ['-x']],
];

test('coturn\'s client relays from behind a symmetric NAT and loses nothing', { skip, timeout: 60_000 }, async (t) => {
  const client = await lab.client({ nat: 'symmetric' });
  const echo = coturn('peer', ['-L', HERE, '-L', HERE_6, '-p', String(PEER_PORT)]);
  try {
    const port = PEER_PORT.toString(16).toUpperCase().padStart(4, '0');
    await eventually('the peer to listen', () =>
      ['udp', 'udp6'].every((family) => fs.readFileSync(`/proc/net/${family}`, 'utf8').includes(`:${port} `)));
    await Promise.all(ways.map(async ([name, peer, flags], number) => {
      const sizes = ['-n', String(MESSAGES), '-m', String(CLIENTS), '-l', '200'];
      const { code, stdout, stderr } = await coturn('uclient', [
        // A user each: one may have 32 allocations, and a client takes two.
        ...flags, '-u', `user-${number}`, '-W', SECRET, '-e', peer, '-r', String(PEER_PORT), ...sizes, SRV,
      ], client).ended;
      const [, sent, received] = /start_mclient: tot_send_msgs=(\d+), tot_recv_msgs=(\d+)/.exec(stdout) ?? [];
      const [, lost] = /Total lost packets (\d+)/.exec(stdout) ?? [];
      t.diagnostic(`turnutils_uclient, ${name}: ${sent} sent, ${received} received, ${lost} lost`);
      assert.deepEqual([code, Number(sent), Number(received), lost], [0, CLIENTS * MESSAGES, CLIENTS * MESSAGES, '0'], `${name}: ${stdout.slice(-2000)}${stderr}`);
    }));
    server.assertHealthy();
  } finally {
    await echo.stop();
  }
});

const routers = [
  ['fullcone', 'Endpoint Independent', 'Endpoint Independent'],
  ['portrestricted', 'Endpoint Independent', 'Address and Port Dependent'],
  ['symmetric', 'Address and Port Dependent', 'Address and Port Dependent'],
];

test('turnutils_natdiscovery learns what each router does', { skip, timeout: 60_000 }, async (t) => {
  await Promise.all(routers.map(async ([nat, mapping, filtering]) => {
    const { stdout } = await coturn('natdiscovery', ['-m', '-f', SRV], await lab.client({ nat })).ended;
    const [, mapped] = /NAT with (.*) Mapping!/.exec(stdout) ?? [];
    const [, filtered] = /NAT with (.*) Filtering!/.exec(stdout) ?? [];
    t.diagnostic(`turnutils_natdiscovery behind ${nat}: ${mapped} Mapping, ${filtered} Filtering`);
    assert.deepEqual([mapped, filtered], [mapping, filtering], `${nat}: ${stdout}`);
  }));
  server.assertHealthy();
});

test('a credential that is wrong, over, or too long is refused', { skip, timeout: 30_000 }, async () => {
  const cases = [
    ['of another secret', mint('another', 'x'), 401],
    ['that is over', mint(SECRET, 'x', -60), 401],
    ['for longer than 48 h', mint(SECRET, 'x', 49 * 3600), 401],
    ['with no name', { ...mint(SECRET, 'x'), username: 'x' }, 401],
    ['that is fine', mint(SECRET, 'x', 47 * 3600), 0],
  ];
  for (const [name, credential, code] of cases) {
    const client = await openTurnClient(SRV, 3478, credential);
    try {
      assert.equal((await client.allocate()).code, code, name);
      if (code === 0) assert.equal((await client.refresh(0)).code, 0);
    } finally {
      client.close();
    }
  }
});

const DENIED_V4 = [
  '0.0.0.0', '0.1.2.3', '10.0.0.1', '100.64.0.1', '127.0.0.1', '127.255.255.254', '169.254.169.254', '172.16.0.1', '172.31.255.255',
  '192.0.0.1', '192.0.2.1', '192.88.99.1', '192.168.0.1', '198.18.0.1', '198.19.255.255', '203.0.113.1', '224.0.0.1', '239.255.255.255',
  '240.0.0.1', '255.255.255.255',
];
const DENIED_V6 = [
  '::', '::1', '::10.0.0.1', '::ffff:10.0.0.1', '::ffff:127.0.0.1', '::ffff:0:10.0.0.1', '64:ff9b::10.0.0.1', '64:ff9b::127.0.0.1',
  '64:ff9b:1::1', '100::1', '2001::1', '2001:0:102:304:0:0:f5ff:fffe', '2001:2::1', '2001:20::1', '2001:db8::1', '2002:a00:1::1',
  '2002:7f00:1::1', '3fff::1', '5f00::1', 'fc00::1', 'fd00::1', 'fe80::1', 'fe80::5efe:10.0.0.1', '2001:db8:52::5efe:10.0.0.1',
  '2a00::200:5efe:10.0.0.1', 'fec0::1', 'ff02::1', 'ff0e::1',
];
/** What this server itself listens on, in a network that is allowed. */
const OWN = [[SRV, 3478], [SRV, 7800], [SRV, 443], [SRV_2, 3478]];

test('nothing leaves for an address that is denied, in any encoding', { skip, timeout: 60_000 }, async (t) => {
  // With a way out for every packet, none stays only for want of a route.
  lab.srv.sh(`ip route add default via ${HERE}; ip -6 route add default via ${HERE_6}
    nft -f - <<'END'
    table inet watch {
      counter let { }
      counter denied { }
      counter own { }
      chain output {
        type filter hook output priority filter;
        meta l4proto != udp accept
        udp sport != ${RELAY_PORTS} accept
        ip daddr ${SRV} udp dport { 443, 3478, 7800 } counter name own
        ip daddr ${SRV_2} udp dport 3478 counter name own
        ip daddr ${HERE} counter name let accept
        ip6 daddr ${HERE_6} counter name let accept
        ip daddr 198.51.100.0/24 accept
        counter name denied
      }
    }\nEND`);
  const packets = (name) => Number(/packets (\d+)/.exec(lab.srv.sh(`nft list counter inet watch ${name}`))[1]);
  const families = [[4, HERE, 'udp4', DENIED_V4], [6, HERE_6, 'udp6', DENIED_V6]];
  for (const [family, allowed, type, denied] of families) {
    const client = await openTurnClient(SRV, 3478, mint(SECRET, `family-${family}`));
    const peer = createSocket(type).bind(0, allowed);
    await once(peer, 'listening');
    try {
      const { code, relayed } = await client.allocate({ family });
      assert.equal(code, 0, `an IPv${family} relayed address`);
      let channel = 0x4000;
      const attempt = async (address, port) => {
        const codes = [(await client.bindChannel(channel, address, port)).code];
        client.send(address, port, 'indication');
        client.sendOnChannel(channel, 'channel data');
        channel += 1;
        return codes[0];
      };
      for (const address of denied) {
        assert.equal((await client.permit(address)).code, 403, `a permission for ${address}`);
        assert.equal(await attempt(address, 9), 403, `a channel to ${address}`);
      }
      if (family === 4) for (const [address, port] of OWN) assert.equal(await attempt(address, port), 403, `a channel to ${address}:${port}`);

      // The same is let through to one who is allowed; it comes after all that was tried before.
      const arrived = once(peer, 'message', { signal: AbortSignal.timeout(5000) });
      assert.equal((await client.permit(allowed)).code, 0);
      client.send(allowed, peer.address().port, 'indication');
      const [data, from] = await arrived;
      assert.deepEqual([data.toString(), from.port], ['indication', relayed.port]);
      // An address of the other family fits no relayed address of this one (RFC 8656 §9.1).
      assert.equal((await client.permit(family === 4 ? HERE_6 : HERE)).code, 443);
    } finally {
      client.close();
      peer.close();
    }
  }
  const counted = { denied: packets('denied'), own: packets('own'), let: packets('let') };
  t.diagnostic(`${DENIED_V4.length + DENIED_V6.length} denied addresses: ${JSON.stringify(counted)} packets left`);
  assert.deepEqual([counted.denied, counted.own], [0, 0]);
  assert.ok(counted.let >= families.length, 'what is let through is counted');
  server.assertHealthy();
});
