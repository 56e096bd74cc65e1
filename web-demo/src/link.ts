/** The join link: what it says, and how the token leaves the address bar. */

/** What a join link names. */
export interface Invitation {
  room: string
  token: string
}

/** Reads room and token of an address. */
export function readInvitation(search: string): Invitation {
  const query = new URLSearchParams(search)
  return { room: query.get('room') ?? '', token: query.get('token') ?? '' }
}

/** The same address without its token. */
export function withoutToken(href: string): string {
  const url = new URL(href)
  url.searchParams.delete('token')
  return url.pathname + url.search + url.hash
}

/** A link for others. Only a guest token is meant for more than one person. */
export function linkForOthers(origin: string, { room, token }: Invitation): string {
  const url = new URL('/', origin)
  url.searchParams.set('room', room)
  if (isGuestToken(token)) url.searchParams.set('token', token)
  return url.href
}

/** Whether each join with this token gets an identity of its own. The server decides; this only reads. */
export function isGuestToken(token: string): boolean {
  return claimsOf(token)?.plenum?.guest === true
}

/** The name the token brings along. */
export function nameInToken(token: string): string {
  const claims = claimsOf(token)
  return claims?.name ?? claims?.sub ?? ''
}

/** The room the token is for. */
export function roomInToken(token: string): string {
  const room: unknown = claimsOf(token)?.video?.room
  return typeof room === 'string' ? room : ''
}

/** Whether the token is for the room the link names, as far as a page can tell. */
export function opensItsRoom({ room, token }: Invitation): boolean {
  const named = roomInToken(token)
  return !room || !named || named === room
}

/**
 * What the token seems good for in a room besides its broadcast: to look in, to write to those who
 * are there. A token for playback alone is good for neither.
 */
export function grantsIn(room: string, token: string): { looksIn: boolean; writes: boolean } {
  const video = claimsOf(token)?.video
  const joins = video?.roomJoin === true && video.room === room
  return { looksIn: joins && video.canSubscribe !== false, writes: joins && video.canPublishData !== false }
}

interface Claims {
  sub?: string
  name?: string
  video?: { room?: string; roomJoin?: boolean; canSubscribe?: boolean; canPublishData?: boolean }
  plenum?: { guest?: boolean }
}

function claimsOf(token: string): Claims | undefined {
  try {
    const part = token.split('.')[1] ?? ''
    const bytes = Uint8Array.from(atob(part.replace(/-/g, '+').replace(/_/g, '/')), (char) => char.charCodeAt(0))
    const claims: unknown = JSON.parse(new TextDecoder().decode(bytes))
    return typeof claims === 'object' && claims !== null ? claims : undefined
  } catch {
    return undefined
  }
}

/**
 * Takes the invitation out of the address bar at once, so that the token is in no screenshot,
 * bookmark or history, and keeps it for a reload of this tab only.
 */
export function takeInvitation(): Invitation {
  const { room, token } = readInvitation(location.search)
  const key = storageKey()
  // The viewer page has the room in its path.
  const isNamed = room !== '' || location.pathname.startsWith('/watch/')
  if (!token) return { room, token: (isNamed && sessionStorage.getItem(key)) || '' }
  sessionStorage.setItem(key, token)
  history.replaceState(history.state, '', withoutToken(location.href))
  return { room: room || roomInToken(token), token }
}

/** The server gave a fresh token: a reload, or joining again after hours, must not fail for the old one. */
export function renewToken(invitation: Invitation, token: string): void {
  invitation.token = token
  sessionStorage.setItem(storageKey(), token)
}

/** Another page of ours in this tab may use the invitation: its address carries no token. */
export function handOver(path: string, { room, token }: Invitation): string {
  sessionStorage.setItem(storageKey(path, room), token)
  return `${path}?room=${encodeURIComponent(room)}`
}

function storageKey(path = location.pathname, room = readInvitation(location.search).room): string {
  return `plenum.token.${path}?${room}`
}
