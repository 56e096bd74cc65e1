/** Names and the avatars made of them. */

/** One or two letters for an avatar. */
export function initials(name: string): string {
  const words = name.trim().split(/[\s._-]+/).filter(Boolean)
  const first = words[0] ?? '?'
  const last = words.length > 1 ? words[words.length - 1]! : ''
  return ([...first][0]! + ([...last][0] ?? '')).toUpperCase()
}

/** A hue from 0 to 359 that stays with a person. */
export function hueOf(identity: string): number {
  let hash = 0
  for (const char of identity) hash = (hash * 31 + char.codePointAt(0)!) >>> 0
  return hash % 360
}
