/** The type of abort signals, which needs neither Node's types nor those of browsers. */

/** The used part of an `AbortSignal`. That of every runtime and realm fits. */
export interface AbortSignalLike {
  /** True once it was aborted. */
  readonly aborted: boolean
  /** Why it was aborted. */
  readonly reason?: unknown
  /** Calls a listener when it is aborted. */
  addEventListener(type: 'abort', listener: () => void, options?: { readonly once?: boolean }): void
  /** Removes such a listener. */
  removeEventListener(type: 'abort', listener: () => void): void
}
