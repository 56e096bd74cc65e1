/** Receives a room by WHEP: one POST with an offer, the answer comes back with it. */
import { PlenumError } from '@plenum/client'

/** A running WHEP session. */
export interface Playing {
  stream: MediaStream
  connection: RTCPeerConnection
  /** Ends it here and on the server. */
  stop(): void
}

/** Starts to receive a room's program. */
export async function play(room: string, token: string): Promise<Playing> {
  const connection = new RTCPeerConnection({ bundlePolicy: 'max-bundle' })
  const stream = new MediaStream()
  for (const kind of ['audio', 'video']) {
    stream.addTrack(connection.addTransceiver(kind, { direction: 'recvonly' }).receiver.track)
  }
  try {
    await connection.setLocalDescription()
    const url = `/whep/${encodeURIComponent(room)}`
    const authorization: Record<string, string> = token ? { authorization: `Bearer ${token}` } : {}
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/sdp', ...authorization },
      body: connection.localDescription?.sdp ?? '',
    })
    if (response.status !== 201) throw await refusal(response)
    await connection.setRemoteDescription({ type: 'answer', sdp: await response.text() })
    const location = response.headers.get('location')
    const stop = () => {
      connection.close()
      if (location) void fetch(new URL(location, response.url), { method: 'DELETE', headers: authorization, keepalive: true })
    }
    return { stream, connection, stop }
  } catch (error) {
    connection.close()
    throw error instanceof PlenumError ? error : new PlenumError('unreachable', String(error), error)
  }
}

async function refusal(response: Response): Promise<PlenumError> {
  const problem = (await response.json().catch(() => ({}))) as { code?: string; detail?: string; title?: string }
  const code = problem.code ?? (response.status === 401 ? 'unauthorized' : 'unreachable')
  return new PlenumError(code, problem.detail ?? problem.title ?? `the server answered ${response.status}`)
}
