/** Where signaling happens. */
import { PlenumError } from './errors'

/** The signaling address of a server given by its http(s) or ws(s) address, which may have a path. */
export function signalUrl(server: string): string {
  let url: URL
  try {
    url = new URL(server)
  } catch (error) {
    throw new PlenumError('bad_url', `not an address: ${server}`, error)
  }
  const protocol = { 'http:': 'ws:', 'https:': 'wss:', 'ws:': 'ws:', 'wss:': 'wss:' }[url.protocol]
  if (!protocol) throw new PlenumError('bad_url', `not an address of a server: ${server}`)
  return `${protocol}//${url.host}${url.pathname.replace(/\/+$/, '')}/v1/signal`
}
