// Joining from where people are: behind routers that translate addresses, that block UDP. The meeting page
// in Chromium joins by its link, sees and hears somebody, and its statistics tell on which way.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launchChromium, publishPage, seesAndHears, stats, timedJoin } from '../lib/browser.mjs';
import { natBehaviour } from '../lib/nat-behaviour.mjs';
import { noNatlab, SRV, startNatlab } from '../lib/natlab.mjs';
import { startPublicServer } from '../lib/server.mjs';

/** A person waits this long, not longer; the aim is half of it, and what was measured is printed. */
const JOIN_MAX_MS = 10_000;
const FLAGS = ['--ignore-certificate-errors'];

const skip = noNatlab();
let lab;
let server;
let chromium;
before(async () => {
  if (skip) return;
  lab = await startNatlab();
  server = await startPublicServer(lab);
  chromium = await launchChromium({ flags: FLAGS });
  await publishPage(chromium, server, 'lab', 'ann');
});
after(async () => {
  await chromium?.close();
  await server?.stop();
  await lab?.close();
});

const behaviours = {
  none: { translates: false, mapping: 'independent', filtering: 'independent' },
  fullcone: { translates: true, mapping: 'independent', filtering: 'independent' },
  portrestricted: { translates: true, mapping: 'independent', filtering: 'dependent' },
  symmetric: { translates: true, mapping: 'dependent', filtering: 'dependent' },
};

test('the routers of the lab are what they say', { skip, timeout: 30_000 }, async () => {
  for (const [nat, behaviour] of Object.entries(behaviours)) {
    assert.deepEqual(await natBehaviour(await lab.client({ nat })), behaviour, nat);
  }
});

const direct = (protocol) => ({ protocol, local: 'prflx', relay: null, remote: 'host', address: SRV, port: 7800 });
const ways = [
  ['behind a full-cone NAT', { nat: 'fullcone' }, direct('udp')],
  ['behind a port-restricted NAT', { nat: 'portrestricted' }, direct('udp')],
  ['behind a symmetric NAT', { nat: 'symmetric' }, direct('udp')],
  ['with UDP blocked', { nat: 'symmetric', firewall: 'noudp' }, direct('tcp')],
  ['with nothing open but TCP to 443', { nat: 'symmetric', firewall: 'tcp443' }, { ...direct('udp'), local: 'relay', relay: 'tls' }],
];
for (const [where, network, way] of ways) {
  test(`a person ${where} joins and sees who is there`, { skip, timeout: 60_000 }, async (t) => {
    const client = await lab.client(network);
    const theirs = await launchChromium({ host: client, flags: FLAGS });
    try {
      const page = await theirs.page({ timeFirstFrame: true });
      const ms = await timedJoin(page, await server.link('lab', `ben-${client.address}`));
      await seesAndHears(page, 1);
      const { pairs } = await stats(page);
      const { local, relay, protocol, address, port } = pairs[0];
      t.diagnostic(`${where}: Join to first picture in ${Math.round(ms)} ms, by ${relay ?? protocol} from a ${local} candidate to ${address}:${port}`);
      assert.deepEqual(pairs, [way]);
      if (network.firewall) assert.ok(client.blockedPackets() > 0, 'the router blocked something');
      assert.ok(ms < JOIN_MAX_MS, `${ms} ms`);
      assert.deepEqual(page.errors, []);
      server.assertHealthy();
    } finally {
      await theirs.close();
    }
  });
}
