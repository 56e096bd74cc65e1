// A certificate of a day for the addresses of a test, signed by itself.
import { execFileSync } from 'node:child_process';
import path from 'node:path';

/** Writes a certificate for IP addresses and its key into `folder` as PEM; returns the two paths. */
export function makeCertificate(folder, addresses) {
  const [cert, key] = ['cert.pem', 'key.pem'].map((name) => path.join(folder, name));
  const names = addresses.map((address) => `IP:${address}`).join(',');
  execFileSync('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1',
    '-subj', '/CN=plenum-interop', '-addext', `subjectAltName=${names}`, '-keyout', key, '-out', cert,
  ], { stdio: 'ignore' });
  return { cert, key };
}
