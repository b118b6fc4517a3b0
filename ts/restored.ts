/** Lets the adapter for clones look, if it is loaded, when a timestamp finds the machine restored. */

let look: (() => void) | undefined

/** Calls `callback`, which must not throw, when a timestamp finds that the machine was restored, or fails. */
export function onStampAfterRestore(callback: () => void): void {
  look = callback
}

/** Looks for a restore now. */
export function lookAfterStamp(): void {
  look?.()
}
