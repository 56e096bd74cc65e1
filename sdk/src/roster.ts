/** Who is in the room, what they publish, and which slot carries it: the server's events applied. */
import type { AdaptiveView } from './adaptive'
import type { Playback } from './audio'
import type { LocalParticipant } from './local-participant'
import type { Happening, Participant as ParticipantView, Request, SlotSet, Track, Welcome } from './protocol'
import { RemoteParticipant, RemotePublication } from './remote-participant'
import { RemoteTrack } from './remote-track'
import type { RoomEmit } from './room-events'
import { SlotMap } from './slots'
import type { SlotStep } from './slots'

/** What the roster needs of its room. */
export interface RosterDelegate {
  emit: RoomEmit
  request(request: Request): Promise<unknown>
  /** The receiver of a slot. */
  receiver(mid: string): RTCRtpReceiver | undefined
}

/** The client's picture of a room. */
export class Roster {
  /** By id of their stay. */
  readonly participants = new Map<string, RemoteParticipant>()
  readonly #slots = new SlotMap()
  readonly #publications = new Map<string, RemotePublication>()
  readonly #local: LocalParticipant
  readonly #playback: Playback
  readonly #view: AdaptiveView
  readonly #delegate: RosterDelegate
  #speakers: (LocalParticipant | RemoteParticipant)[] = []

  constructor(local: LocalParticipant, playback: Playback, view: AdaptiveView, delegate: RosterDelegate) {
    this.#local = local
    this.#playback = playback
    this.#view = view
    this.#delegate = delegate
  }

  /** Who speaks, loudest first. */
  get speakers(): readonly (LocalParticipant | RemoteParticipant)[] {
    return this.#speakers
  }

  /** Finds a participant by the name the application knows it by. */
  byIdentity(identity: string): RemoteParticipant | undefined {
    for (const one of this.participants.values()) if (one.identity === identity) return one
    return undefined
  }

  /** Replaces everything by the server's snapshot, telling only the differences. */
  restore({ participants, slots, answer }: Welcome): void {
    const present = new Set(participants.map(({ id }) => id))
    for (const one of [...this.participants.values()]) {
      if (!present.has(one.id)) this.#left(one, 'connection_lost')
    }
    for (const view of participants) this.#joined(view)
    this.replaceSlots(answer?.slots ?? slots)
  }

  /** The map that came with an answer: what every slot carries. */
  replaceSlots(slots: SlotSet): void {
    for (const step of this.#slots.replace(slots)) this.#step(step)
  }

  /** Applies one event; false: it is not the roster's. */
  apply(event: Happening): boolean {
    switch (event.t) {
      case 'joined':
        this.#joined(event.p)
        return true
      case 'left': {
        const one = this.participants.get(event.id)
        if (one) this.#left(one, event.reason)
        return true
      }
      case 'updated': {
        const one = event.id === this.#local.id ? this.#local : this.participants.get(event.id)
        one?.update(event.patch)
        if (one) this.#delegate.emit('participantUpdated', one)
        return true
      }
      case 'published': {
        const one = this.participants.get(event.id)
        if (one) this.#published(event.track, one)
        return one !== undefined
      }
      case 'unpublished': {
        const publication = this.#publications.get(event.track)
        if (publication) this.#unpublished(publication)
        return publication !== undefined
      }
      case 'track': {
        const publication = this.#publications.get(event.track)
        if (publication) this.#changed(publication, event.patch)
        return publication !== undefined
      }
      case 'slots':
        for (const step of this.#slots.apply(event.set)) this.#step(step)
        return true
      case 'stream': {
        const publication = this.#publications.get(event.track)
        if (!publication) return true
        publication.stream = event
        this.#delegate.emit('streamState', publication, publication.participant)
        return true
      }
      case 'speakers':
        this.#speak(event.levels)
        return true
      default:
        return false
    }
  }

  /** Empties the room, at its end. */
  clear(): void {
    for (const one of [...this.participants.values()]) this.#left(one, 'left')
    this.#slots.replace({})
    this.#speakers = []
  }

  /** Takes every slot away: the connection they belonged to is gone. */
  clearSlots(): void {
    this.replaceSlots({})
  }

  /** Nobody is known to speak: who falls silent now is not told. Whoever goes on is told again. */
  silence(): void {
    if (this.#speakers.length === 0) return
    this.#speak(Object.fromEntries(this.#speakers.map(({ id }) => [id, 0])))
  }

  #joined(view: ParticipantView): void {
    const known = this.participants.get(view.id)
    const one = known ?? new RemoteParticipant(view)
    if (known) {
      known.update(view)
    } else {
      this.participants.set(one.id, one)
      this.#delegate.emit('participantJoined', one)
    }
    const present = new Set(view.tracks.map(({ id }) => id))
    for (const publication of [...one.publications.values()]) {
      if (!present.has(publication.id)) this.#unpublished(publication)
    }
    for (const track of view.tracks) this.#published(track, one)
  }

  #left(one: RemoteParticipant, reason: string): void {
    for (const publication of [...one.publications.values()]) this.#unpublished(publication)
    this.participants.delete(one.id)
    this.#speakers = this.#speakers.filter((speaker) => speaker !== one)
    this.#delegate.emit('participantLeft', one, reason)
  }

  #published(view: Track, one: RemoteParticipant): void {
    const known = one.publications.get(view.id)
    if (known) {
      this.#changed(known, view)
      return
    }
    const track = new RemoteTrack(view.id, view.kind, this.#playback, this.#view)
    const publication = new RemotePublication(view, one, track, this.#view, (request) =>
      this.#delegate.request(request),
    )
    one.publications.set(view.id, publication)
    this.#publications.set(view.id, publication)
    this.#delegate.emit('trackPublished', publication, one)
    const mid = this.#slots.midOf(view.id)
    if (mid !== undefined) this.#step({ kind: 'filled', mid, track: view.id, ts: undefined })
  }

  #unpublished(publication: RemotePublication): void {
    const { participant, track } = publication
    if (publication.isSubscribed) this.#unbind(publication)
    track.detach()
    this.#view.forget(publication.id)
    participant.publications.delete(publication.id)
    this.#publications.delete(publication.id)
    this.#delegate.emit('trackUnpublished', publication, participant)
  }

  #changed(publication: RemotePublication, patch: Partial<Track>): void {
    const { participant } = publication
    if (publication.update(patch)) {
      this.#delegate.emit(publication.muted ? 'trackMuted' : 'trackUnmuted', publication, participant)
    }
    this.#delegate.emit('trackChanged', publication, participant)
  }

  #step(step: SlotStep): void {
    const publication = this.#publications.get(step.track)
    if (!publication) return // announced in a moment; see #published
    if (step.kind === 'cleared') {
      this.#unbind(publication)
      return
    }
    const receiver = this.#delegate.receiver(step.mid)
    if (!receiver) return
    publication.track.bind(receiver, step.ts)
    this.#delegate.emit('trackSubscribed', publication.track, publication, publication.participant)
  }

  #unbind(publication: RemotePublication): void {
    publication.track.unbind()
    this.#delegate.emit('trackUnsubscribed', publication.track, publication, publication.participant)
  }

  #speak(levels: { [id in string]: number }): void {
    for (const [id, level] of Object.entries(levels)) {
      const one = id === this.#local.id ? this.#local : this.participants.get(id)
      if (one) one.audioLevel = level
    }
    this.#speakers = [this.#local, ...this.participants.values()]
      .filter((one) => one.audioLevel > 0)
      .sort((a, b) => b.audioLevel - a.audioLevel)
    this.#delegate.emit('activeSpeakers', this.#speakers)
  }
}
