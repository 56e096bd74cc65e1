/** Chooses the page by its address. */
import './style.css'
import { PlenumError, Room } from '@plenum/client'
import { openConnectivity } from './connectivity'
import { el, show } from './dom'
import { explain } from './errors'
import { openFigures } from './figures'
import { opensItsRoom, takeInvitation } from './link'
import type { Invitation } from './link'
import { Meeting } from './meeting'
import { explainDevices, PreJoin } from './prejoin'
import type { JoinChoice } from './prejoin'
import type { DeviceSource } from './preview'
import { toast } from './toast'

function openMeeting(invitation: Invitation, reason?: PlenumError): void {
  new PreJoin(invitation, (choice) => join(invitation, choice), reason)
}

async function join(invitation: Invitation, choice: JoinChoice): Promise<void> {
  if (!opensItsRoom(invitation)) throw wrongRoom(invitation)
  const room = new Room()
  const meeting = new Meeting(room, invitation, (error) => showEnd(invitation, error))
  for (const source of ['camera', 'microphone'] as const) publish(room, choice, source)
  try {
    await room.connect(location.origin, invitation.token, choice.name ? { name: choice.name } : {})
  } catch (error) {
    room.disconnect()
    throw error
  }
  meeting.open()
  const problems = explainDevices([choice.camera, choice.microphone])
  if (problems) toast(problems, 'problem')
  choice.camera.release()
  choice.microphone.release()
}

/**
 * Publishes a copy of a device's track: with the first offer when it is open already, else as soon
 * as it is. The preview keeps its own, for the case that joining fails.
 */
function publish(room: Room, choice: JoinChoice, source: DeviceSource): void {
  const device = choice[source]
  if (!device.isWanted) return
  const { state, deviceId } = device
  // Only noted for later: nothing is published yet.
  if (deviceId !== undefined) void room.switchDevice(source, deviceId)
  const start = (track: MediaStreamTrack) =>
    room.localParticipant.publish(track.clone(), { source }).catch((error: PlenumError) => {
      if (error.code !== 'ended' && error.code !== 'aborted') toast(`Your ${source} is not shown to others: ${error.message}`, 'problem')
    })
  if (state.at === 'on') void start(state.track)
  else if (state.at !== 'failed') {
    void device.track.then((track) => {
      if (track && room.state !== 'disconnected') void start(track)
    })
  }
}

function showEnd(invitation: Invitation, error: PlenumError | undefined): void {
  const { title, advice } = error ? explain(error) : { title: 'You left the meeting', advice: invitation.room }
  const again = el('button', { class: 'primary', type: 'button', onclick: () => openMeeting(invitation) }, 'Join again')
  show(
    el('main', { class: 'message' }, el('h1', {}, title), el('p', {}, advice), again),
  )
  again.focus()
}

/** The server would let the person into the token's room, which is not where the link says they go. */
function wrongRoom({ room }: Invitation): PlenumError {
  return new PlenumError('wrong_room', `This link does not open room ${room}`)
}

function showWelcome(): void {
  const field = el('input', { class: 'input', type: 'url', placeholder: 'https://…/?room=…&token=…', required: true })
  const open = (event: Event): void => {
    event.preventDefault()
    location.href = field.value
  }
  show(
    el(
      'main',
      { class: 'message' },
      el('h1', {}, 'Plenum'),
      el('p', {}, 'Meetings open with an invitation link. Paste yours here.'),
      el(
        'form',
        { class: 'link-form', onsubmit: open },
        el('label', { class: 'field' }, el('span', { class: 'field-name' }, 'Invitation link'), field),
        el('button', { class: 'primary', type: 'submit' }, 'Open'),
      ),
    ),
  )
}

/** Loaded for those who watch only: the meeting page starts sooner without it. */
async function openWatch({ token }: Invitation): Promise<void> {
  const { openViewer } = await import('./viewer')
  openViewer({ room: decodeURIComponent(location.pathname.slice('/watch/'.length)), token })
}

const invitation = takeInvitation()
if (location.pathname.startsWith('/watch/')) void openWatch(invitation)
else if (location.pathname === '/stats') openFigures()
else if (location.pathname === '/connectivity') openConnectivity(invitation)
else if (!invitation.room) showWelcome()
else if (!invitation.token) openMeeting(invitation, new PlenumError('unauthorized', 'the link has no token'))
else openMeeting(invitation, opensItsRoom(invitation) ? undefined : wrongRoom(invitation))
