/** Cameras, microphones and loudspeakers. */
import { deviceError, PlenumError } from './errors'

/** What can be chosen. */
export type DeviceKind = 'camera' | 'microphone' | 'speaker'

/** How a camera is opened. */
export interface CameraOptions {
  deviceId?: string
  facingMode?: 'user' | 'environment'
  /** Pixels; the browser picks the nearest it has. Default 1280x720. */
  width?: number
  height?: number
  /** Frames a second. Default 30. */
  fps?: number
}

/** How a microphone is opened; the three kinds of processing are on by default. */
export interface MicrophoneOptions {
  deviceId?: string
  echoCancellation?: boolean
  noiseSuppression?: boolean
  autoGainControl?: boolean
  /** Two channels, for music. Default false. */
  stereo?: boolean
}

/** How a screen is shared. */
export interface ScreenOptions {
  /** Share its sound too, where the browser can. Default false. */
  audio?: boolean
}

const KINDS: Readonly<Record<DeviceKind, MediaDeviceKind>> = {
  camera: 'videoinput',
  microphone: 'audioinput',
  speaker: 'audiooutput',
}

/** Lists devices; labels are empty until the user allowed one of the kind. */
export async function listDevices(kind: DeviceKind): Promise<MediaDeviceInfo[]> {
  const devices = await mediaDevices().enumerateDevices()
  return devices.filter((device) => device.kind === KINDS[kind])
}

/** Opens a camera. Rejects with one of the `device_…` codes. */
export async function openCamera(options: CameraOptions = {}): Promise<MediaStreamTrack> {
  const { deviceId, facingMode, width = 1280, height = 720, fps = 30 } = options
  const video: MediaTrackConstraints = {
    width: { ideal: width },
    height: { ideal: height },
    frameRate: { ideal: fps, max: 60 },
    ...(deviceId ? { deviceId: { exact: deviceId } } : {}),
    ...(facingMode ? { facingMode } : {}),
  }
  return await open({ video })
}

/** Opens a microphone. Rejects with one of the `device_…` codes. */
export async function openMicrophone(options: MicrophoneOptions = {}): Promise<MediaStreamTrack> {
  const { deviceId, stereo = false } = options
  const audio: MediaTrackConstraints = {
    echoCancellation: options.echoCancellation ?? true,
    noiseSuppression: options.noiseSuppression ?? true,
    autoGainControl: options.autoGainControl ?? true,
    channelCount: stereo ? 2 : 1,
    ...(deviceId ? { deviceId: { exact: deviceId } } : {}),
  }
  return await open({ audio })
}

/** Asks the user for a screen, window or tab; the second track is its sound. */
export async function openScreen(options: ScreenOptions = {}): Promise<MediaStreamTrack[]> {
  const devices = mediaDevices()
  if (!('getDisplayMedia' in devices)) {
    throw new PlenumError('device_unsupported', 'this browser cannot share a screen')
  }
  try {
    const stream = await devices.getDisplayMedia({ video: true, audio: options.audio ?? false })
    return stream.getTracks().sort((a, b) => (a.kind < b.kind ? 1 : -1))
  } catch (error) {
    throw deviceError(error)
  }
}

async function open(constraints: MediaStreamConstraints): Promise<MediaStreamTrack> {
  const devices = mediaDevices()
  try {
    const stream = await devices.getUserMedia(constraints)
    return stream.getTracks()[0]!
  } catch (error) {
    throw deviceError(error)
  }
}

function mediaDevices(): MediaDevices {
  // Pages that are not served over HTTPS (or from this machine) have no such object.
  const devices = (navigator as { mediaDevices?: MediaDevices }).mediaDevices
  if (!devices) throw new PlenumError('device_unsupported', 'devices need a page served over HTTPS')
  return devices
}
