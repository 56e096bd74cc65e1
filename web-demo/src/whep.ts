/** Receives a room by WHEP: one POST with an offer, the answer comes back with it. */
import { PlenumError } from '@plenum/client'

/** A running WHEP session. */
export interface Playing {
  stream: MediaStream
  connection: RTCPeerConnection
  /** Ends it here and on the server. */
  stop(): void
}

/** What the server answered to an offer. */
export interface Answered {
  sdp: string
  /** The `Link` headers, which name its TURN servers. */
  links: string
  /** Ends it on the server, then here. */
  end(): Promise<void>
}

/** Offers what the connection is prepared for. */
export async function offer(connection: RTCPeerConnection, room: string, token: string): Promise<Answered> {
  await connection.setLocalDescription()
  const url = `/whep/${encodeURIComponent(room)}`
  const authorization: Record<string, string> = token ? { authorization: `Bearer ${token}` } : {}
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/sdp', ...authorization },
    body: connection.localDescription?.sdp ?? '',
  })
  if (response.status !== 201) throw await refusal(response)
  const location = response.headers.get('location')
  const end = async (): Promise<void> => {
    // Closed first, the server would have forgotten the session before the DELETE arrives.
    if (location) await fetch(new URL(location, response.url), { method: 'DELETE', headers: authorization, keepalive: true }).catch(() => {})
    connection.close()
  }
  return { sdp: await response.text(), links: response.headers.get('link') ?? '', end }
}

/** Starts to receive a room's program. */
export async function play(room: string, token: string): Promise<Playing> {
  const connection = new RTCPeerConnection({ bundlePolicy: 'max-bundle' })
  const stream = new MediaStream()
  for (const kind of ['audio', 'video']) {
    stream.addTrack(connection.addTransceiver(kind, { direction: 'recvonly' }).receiver.track)
  }
  try {
    const { sdp, end } = await offer(connection, room, token)
    await connection.setRemoteDescription({ type: 'answer', sdp })
    const stop = () => void end()
    return { stream, connection, stop }
  } catch (error) {
    connection.close()
    throw error instanceof PlenumError ? error : new PlenumError('unreachable', String(error), error)
  }
}

const LOOK_MS = 1000
// A shared screen that does not change may send a picture a second.
const IDLE_MS = 3000

/** Reports once a second, until the connection closes, whether picture and sound arrive. */
export function watchArrivals(connection: RTCPeerConnection, report: (arrives: { picture: boolean; sound: boolean }) => void): void {
  const seen = { video: { count: 0, at: -IDLE_MS }, audio: { count: 0, at: -IDLE_MS } }
  const isClosed = (): boolean => connection.connectionState === 'closed'
  const timer = setInterval(async () => {
    if (isClosed()) {
      clearInterval(timer)
      return
    }
    const now = performance.now()
    for (const stat of (await connection.getStats()).values()) {
      if (stat.type !== 'inbound-rtp') continue
      const kind = stat.kind === 'video' ? 'video' : 'audio'
      const count: number = (kind === 'video' ? stat.framesDecoded : stat.packetsReceived) ?? 0
      if (count !== seen[kind].count) seen[kind] = { count, at: now }
    }
    const isFresh = ({ at }: { at: number }) => now - at < IDLE_MS
    if (!isClosed()) report({ picture: isFresh(seen.video), sound: isFresh(seen.audio) })
  }, LOOK_MS)
}

/** Why the server said no. */
export async function refusal(response: Response): Promise<PlenumError> {
  const problem = (await response.json().catch(() => ({}))) as { code?: string; detail?: string; title?: string }
  const code = problem.code ?? (response.status === 401 ? 'unauthorized' : 'unreachable')
  return new PlenumError(code, problem.detail ?? problem.title ?? `the server answered ${response.status}`)
}
