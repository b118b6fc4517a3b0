/** Reads lines of standard input without ever failing or stopping the process. */

import { createInterface, type Interface } from 'node:readline'
import { isatty, ReadStream } from 'node:tty'
import { checked } from '../errors'
import { native } from '../native'

// How long after a refused read of the terminal the next one is tried.
const RETRY_MS = 500

/**
 * The lines of standard input, if it can be read.
 *
 * A terminal can be read only while this process is in its foreground. The kernel stops a process that reads
 * in the background, unless it ignores SIGTTIN: then the read fails with EIO, and is tried again later.
 */
export class CommandInput {
  readonly #take: (line: string) => void
  #lines: Interface | undefined
  #stream: Input | undefined
  #retry: NodeJS.Timeout | undefined
  #closed = false

  constructor(take: (line: string) => void) {
    this.#take = take
  }

  /** Begins to read. The end of input and any error only mean that no more lines come. */
  open(): void {
    const isTerminal = isatty(0)
    if (isTerminal) checked(native().ignoreTerminalStops())
    const stream = inputStream(isTerminal)
    if (stream === undefined) return
    this.#stream = stream
    const failed = (): void => {
      this.#closeStream()
      if (!isTerminal || this.#closed) return
      this.#retry = setTimeout(() => this.open(), RETRY_MS)
      this.#retry.unref()
    }
    stream.on('error', failed)
    this.#lines = createInterface({ input: stream, terminal: false })
    // It repeats the stream's error.
    this.#lines.on('error', () => {})
    this.#lines.on('line', (text) => {
      // Lines that arrived together are delivered after a call of `close`.
      if (!this.#closed) this.#take(text)
    })
  }

  /** Stops reading. */
  close(): void {
    this.#closed = true
    clearTimeout(this.#retry)
    this.#closeStream()
  }

  #closeStream(): void {
    this.#lines?.close()
    this.#lines = undefined
    this.#stream?.destroy()
    this.#stream = undefined
  }
}

type Input = NodeJS.ReadableStream & { destroy(): unknown }

// Making the stream throws if Node cannot initialize the terminal. There are no commands then.
function inputStream(isTerminal: boolean): Input | undefined {
  try {
    // Node keeps one stream of standard input, which cannot be opened again after an error.
    return isTerminal ? new ReadStream(0) : process.stdin
  } catch {
    return undefined
  }
}
