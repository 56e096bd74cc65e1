/** The events of a room. */
import type { PlenumError } from './errors'
import type { LocalParticipant } from './local-participant'
import type { LocalPublication } from './local-publication'
import type { GrantsView, Source } from './protocol'
import type { RemoteParticipant, RemotePublication } from './remote-participant'
import type { RemoteTrack } from './remote-track'

/** A message of another participant. */
export interface DataEvent {
  payload: Uint8Array
  topic: string
  /** The sender's identity. */
  from: string
  /** The sender, unless it has left meanwhile. */
  participant: RemoteParticipant | undefined
  reliable: boolean
  /** The payload as text. */
  text(): string
  /** The payload as JSON; throws where it is none. */
  json(): unknown
}

/** Event names and what their listeners get. */
export type RoomEvents = {
  connected: []
  /** The signaling connection dropped; media goes on meanwhile. */
  reconnecting: []
  reconnected: []
  /** It is over; `undefined`: `disconnect` was called. */
  disconnected: [error: PlenumError | undefined]
  participantJoined: [participant: RemoteParticipant]
  participantLeft: [participant: RemoteParticipant, reason: string]
  /** Name, metadata or attributes changed. */
  participantUpdated: [participant: LocalParticipant | RemoteParticipant]
  trackPublished: [publication: RemotePublication, participant: RemoteParticipant]
  trackUnpublished: [publication: RemotePublication, participant: RemoteParticipant]
  /** A slot carries the track now. */
  trackSubscribed: [track: RemoteTrack, publication: RemotePublication, participant: RemoteParticipant]
  trackUnsubscribed: [track: RemoteTrack, publication: RemotePublication, participant: RemoteParticipant]
  trackMuted: [publication: RemotePublication, participant: RemoteParticipant]
  trackUnmuted: [publication: RemotePublication, participant: RemoteParticipant]
  /** Name, metadata, codec or layers changed. */
  trackChanged: [publication: RemotePublication, participant: RemoteParticipant]
  localTrackPublished: [publication: LocalPublication]
  localTrackUnpublished: [publication: LocalPublication]
  /** A local track was muted, unmuted, or comes from another device. */
  localTrackChanged: [publication: LocalPublication]
  /** An administrator of the room muted a local track; the person may unmute it again. */
  localTrackMutedByRoom: [publication: LocalPublication]
  /** Who speaks, loudest first. */
  activeSpeakers: [speakers: readonly (LocalParticipant | RemoteParticipant)[]]
  /** A track's pictures began or stopped to arrive, or come in another layer. */
  streamState: [publication: RemotePublication, participant: RemoteParticipant]
  data: [message: DataEvent]
  /** The room's metadata changed. */
  metadata: [metadata: string]
  /** How many are in the room; told with `roster: 'publishers'` only, at most once a second. */
  participantCount: [count: number]
  permissions: [grants: GrantsView]
  /** The server sent a fresh token before the one in use ends; the next join needs it. */
  token: [token: string]
  /** Cameras, microphones or loudspeakers came or went. */
  deviceChange: []
  /** A device failed while it was in use. */
  mediaDeviceError: [source: Source, error: PlenumError]
  /** True: sound waits for a gesture; call `startAudio` inside one. */
  audioPlaybackBlocked: [blocked: boolean]
  /** The media path: `connected`, `disconnected`, … as RTCPeerConnection has them. */
  transport: [state: RTCPeerConnectionState]
}

/** Emits one of them. */
export type RoomEmit = <Name extends keyof RoomEvents>(name: Name, ...args: RoomEvents[Name]) => void
