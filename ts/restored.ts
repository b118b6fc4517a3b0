/** What a timestamp does that finds the machine restored: the adapter for clones looks, if it is loaded. */

let look: (() => void) | undefined

/** Calls `callback`, which must not throw, when a timestamp finds that the machine was restored, or fails. */
export function onStampAfterRestore(callback: () => void): void {
  look = callback
}

/** Looks for a restore now. */
export function lookAfterStamp(): void {
  look?.()
}
