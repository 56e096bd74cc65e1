// A little internet in network namespaces with nothing behind it: a server, this process as a host with
// a public address, and clients behind routers that translate addresses (RFC 4787) and block ports.
//
//   srv       198.51.100.10 and .11, 2001:db8:51::10 ──┐
//   here      198.51.100.50 and .51, 2001:db8:51::50 ──┼── a bridge
//   client n  10.77.n.2 ──── router n, 198.51.100.(100 + n) ──┘
//
// A namespace lives as long as the process that holds it, and that one until its standard input closes:
// however this process ends, the kernel clears away what it made.
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

export const SRV = '198.51.100.10';
export const SRV_2 = '198.51.100.11';
export const SRV_6 = '2001:db8:51::10';
export const HERE = '198.51.100.50';
export const HERE_2 = '198.51.100.51';
export const HERE_6 = '2001:db8:51::50';

/** The end of this process's cable; the other end is in the bridge. */
const CABLE = 'natlab';
/** Without an address that comes seconds later: Chromium gives up what it does when the network changes. */
const QUIET = 'ip link set addrgenmode none';
/** Ends what it starts with the process that started it, however that ends. */
const WITH_PARENT = ['setpriv', '--pdeathsig', 'KILL', '--'];
const TOOLS_PATH = `/usr/sbin:/sbin:${process.env.PATH}`;

/** What a router does to what leaves and enters: statements of nft. */
const NATS = {
  none: {},
  fullcone: { out: 'masquerade', in: (client) => `meta l4proto udp dnat to ${client}` },
  portrestricted: { out: 'masquerade' },
  symmetric: { out: 'masquerade random,fully-random' },
};

/** What a router lets its clients send. */
const FIREWALLS = {
  open: [],
  noudp: ['meta l4proto udp counter name blocked drop'],
  tcp443: ['tcp dport 443 accept', 'counter name blocked drop'],
};

/** Why no such network can be made here, or false. */
export function noNatlab() {
  // Without a namespace of its own this process must not touch the interfaces it sees.
  if (!process.env.PLENUM_INTEROP_NAMESPACE) return 'no network namespace to be had';
  const table = 'table ip natlab { chain out { type nat hook postrouting priority srcnat; oifname "wan" masquerade random,fully-random; }; }';
  const tried = spawnSync('unshare', ['--net', 'nft', table], { encoding: 'utf8', env: { ...process.env, PATH: TOOLS_PATH } });
  if (tried.error || tried.status !== 0) {
    return `network namespaces with nft do not work here: ${tried.error?.message ?? tried.stderr.trim().split('\n')[0]}`;
  }
  return false;
}

/** Builds the bridge, `srv` and this process's own access; `client` adds clients. */
export async function startNatlab() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'plenum-natlab-'));
  const hosts = [];
  const add = async () => {
    const host = await startHost(folder);
    hosts.push(host);
    return host;
  };
  const lab = {
    /** A client behind a router of its own: `nat` is a key of `NATS`, `firewall` one of `FIREWALLS`. */
    async client({ nat = 'portrestricted', firewall = 'open' }) {
      this.clients += 1;
      const n = this.clients;
      const [router, client] = [await add(), await add()];
      plug(router, this.wan, 'wan', [`198.51.100.${100 + n}/24`]);
      router.sh(`sysctl -qw net.ipv4.ip_forward=1
        ip link add lan type veth peer name eth0 netns ${client.pid}
        ip address add 10.77.${n}.1/24 dev lan; ${QUIET} lan up
        nft -f - <<'END'\n${routerRules(`10.77.${n}.2`, NATS[nat], FIREWALLS[firewall])}\nEND`);
      client.sh(`ip address add 10.77.${n}.2/24 dev eth0; ${QUIET} eth0 up; ip route add default via 10.77.${n}.1`);
      if (nat === 'none') {
        for (const host of [this.srv, here]) host.sh(`ip route add 10.77.${n}.0/24 via 198.51.100.${100 + n}`);
      }
      client.address = `10.77.${n}.2`;
      /** Packets that the firewall has dropped. */
      client.blockedPackets = () => Number(router.sh('nft list counters').match(/packets (\d+)/)?.[1] ?? 0);
      return client;
    },
    clients: 0,
    async close() {
      here.sh(`ip link del ${CABLE}`);
      await Promise.all(hosts.map((host) => host.close()));
      fs.rmSync(folder, { recursive: true, force: true });
    },
  };
  lab.wan = await add();
  lab.wan.sh('ip link add bridge type bridge; ip link set bridge up');
  lab.srv = await add();
  plug(lab.srv, lab.wan, 'wan', [`${SRV}/24`, `${SRV_2}/24`, `${SRV_6}/64`]);
  here.sh(`ip link del ${CABLE} 2>/dev/null || true`); // of a process that was killed
  plug(here, lab.wan, CABLE, [`${HERE}/24`, `${HERE_2}/24`, `${HERE_6}/64`]);
  return lab;
}

/** This process's own namespace, as far as the lab needs it. */
const here = { pid: process.pid, sh: (script) => sh([], script) };

/** A namespace, and the ways to run something in it. */
async function startHost(folder) {
  const holder = spawn('unshare', ['--net', 'cat'], { stdio: ['pipe', 'pipe', 'ignore'] });
  await new Promise((resolve, reject) => {
    holder.on('error', reject).on('exit', (code) => reject(new Error(`unshare ended: ${code}`)));
    holder.stdout.once('data', resolve); // it is in its namespace when `cat` answers
    holder.stdin.write('?');
  });
  const ended = new Promise((resolve) => holder.on('exit', resolve));
  for (const each of [holder, holder.stdin, holder.stdout]) each.unref();
  const enter = ['nsenter', `--net=/proc/${holder.pid}/ns/net`, '--'];
  const host = {
    pid: holder.pid,
    /** What to start in order to run `program` inside while this process lives: a program and its arguments. */
    command: (program, args) => [enter[0], [...enter.slice(1), ...WITH_PARENT, program, ...args]],
    /** Runs a script of the shell inside and returns what it prints. */
    sh: (script) => sh(enter, script),
    /** A file that runs `program` inside, for those who can start only a file. */
    wrapper(program) {
      const file = path.join(folder, `${path.basename(program)}-${holder.pid}`);
      fs.writeFileSync(file, `#!/bin/sh\nexec ${enter.join(' ')} ${program} "$@"\n`, { mode: 0o755 });
      return file;
    },
    close() {
      holder.ref();
      holder.stdin.end();
      return ended;
    },
  };
  host.sh('ip link set lo up');
  return host;
}

/** A cable from `host`, where its end is called `name`, to the bridge in `wan`. */
function plug(host, wan, name, addresses) {
  host.sh(`ip link add ${name} type veth peer name to-${host.pid} netns ${wan.pid}
    ${addresses.map((address) => `ip address add ${address} dev ${name}${address.includes(':') ? ' nodad' : ''}`).join('\n')}
    ${QUIET} ${name} up`);
  wan.sh(`ip link set to-${host.pid} master bridge up`);
}

function routerRules(client, nat, firewall) {
  const fromLan = firewall.map((rule) => `iifname "lan" ${rule}`).join('\n    ');
  return `table ip router {
  counter blocked { }
  chain dstnat {
    type nat hook prerouting priority dstnat;
    ${nat.in ? `iifname "wan" ${nat.in(client)}` : ''}
  }
  chain srcnat {
    type nat hook postrouting priority srcnat;
    ${nat.out ? `oifname "wan" ${nat.out}` : ''}
  }
  chain forward {
    type filter hook forward priority filter;
    ${fromLan}
    ct state established,related accept
    ${nat.out ? 'iifname "wan" ct status & dnat == 0 drop' : ''}
  }
  # A stray packet to the router itself must die before conntrack knows it: its entry would take the port,
  # the translation would then choose another one, and a hole once punched would lead nowhere.
  chain input {
    type filter hook input priority filter;
    iifname "wan" ct state new drop
  }
}`;
}

function sh(enter, script) {
  const [program, ...args] = [...enter, 'sh', '-ec', script];
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    encoding: 'utf8', timeout: 10_000, env: { ...process.env, PATH: TOOLS_PATH },
  });
  if (error || status !== 0) throw new Error(`${script.slice(0, 200)}: ${error?.message ?? stderr}`);
  return stdout;
}
