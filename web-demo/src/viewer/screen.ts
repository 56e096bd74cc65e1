/** Full screen and picture in picture, by the names the browsers have for them. */

/** Safari on iPhones fills the screen with a video only, by names of its own. */
type SafariVideo = HTMLVideoElement & {
  webkitEnterFullscreen?(): void
  webkitSetPresentationMode?(mode: 'picture-in-picture' | 'inline'): void
  webkitPresentationMode?: string
}

/** Whether there is a way to fill the screen. */
export function canFill(player: HTMLElement, video: SafariVideo): boolean {
  return document.fullscreenEnabled || 'requestFullscreen' in player || video.webkitEnterFullscreen !== undefined
}

/** Fills the screen with the player, or leaves it. */
export async function toggleFill(player: HTMLElement, video: SafariVideo): Promise<void> {
  // A refusal needs no words: nothing happens.
  if (document.fullscreenElement) await document.exitFullscreen().catch(() => {})
  else if ('requestFullscreen' in player) await player.requestFullscreen().catch(() => {})
  else video.webkitEnterFullscreen?.()
}

/** Whether there is a way to keep the picture above other windows. */
export function canInset(video: SafariVideo): boolean {
  return document.pictureInPictureEnabled || video.webkitSetPresentationMode !== undefined
}

/** Keeps the picture above other windows, or puts it back. */
export async function toggleInset(video: SafariVideo): Promise<void> {
  if (document.pictureInPictureElement) await document.exitPictureInPicture().catch(() => {})
  else if (document.pictureInPictureEnabled) await video.requestPictureInPicture().catch(() => {})
  else video.webkitSetPresentationMode?.(video.webkitPresentationMode === 'inline' ? 'picture-in-picture' : 'inline')
}
