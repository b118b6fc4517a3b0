/** The second process of the demo: `vmclock publish`, controlled over its standard input. */

import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { VmClockError } from '../errors'

// The process is killed if it has not ended this long after SIGTERM.
const STOP_TIMEOUT_MS = 5000

/** A child process that publishes a page until `end`, or until this process is gone. */
export class DemoPublisher {
  /** The path of the page. */
  readonly path: string
  /** Resolves when the page is published; rejects if the process ends before that. */
  readonly ready: Promise<void>
  readonly #child: ChildProcess
  readonly #ended: Promise<void>
  #errorOutput = ''
  #outcome: string | undefined

  constructor(path: string) {
    this.path = path
    const [program, ...nodeArguments] = nodeCommand()
    this.#child = spawn(
      program,
      [...nodeArguments, process.argv[1] ?? '', 'publish', path, '--json', '--interval', '100ms'],
      {
        // The IPC channel closes when this process ends for any reason, and the child then ends too.
        // The child has its own process group, so that Ctrl-C reaches only this process.
        stdio: ['pipe', 'pipe', 'pipe', 'ipc'],
        detached: true,
      },
    )
    const child = this.#child
    child.stdin?.on('error', () => {})
    child.stderr?.on('error', () => {})
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#errorOutput += text
    })
    this.#ended = new Promise((resolve) => {
      child.once('error', (error) => {
        this.#outcome ??= error.message
        resolve()
      })
      child.once('close', (code, signal) => {
        this.#outcome ??= signal === null ? `exit code ${code}` : `ended by ${signal}`
        resolve()
      })
    })
    const published = new Promise<void>((resolve) => {
      if (child.stdout === null) return
      const lines = createInterface({ input: child.stdout })
      lines.on('line', (text) => {
        if ((JSON.parse(text) as { event: string }).event === 'published') resolve()
      })
      // The end of the process says the same, and why.
      lines.on('error', () => {})
    })
    this.ready = Promise.race([published, this.#ended.then(() => this.requireAlive())])
    // It may reject when nobody awaits it any more.
    this.ready.catch(() => {})
  }

  /** The process ID. */
  get pid(): number | undefined {
    return this.#child.pid
  }

  /** Throws if the process has ended. */
  requireAlive(): void {
    if (this.#outcome === undefined) return
    throw new VmClockError(
      'ERR_VMCLOCK_SYSTEM',
      `the publishing process is gone (${this.#outcome}${this.#reason()})`,
      { remedy: 'run `vmclock publish` by itself to see why' },
    )
  }

  /** Sends a line to its standard input. */
  command(text: string): void {
    this.#child.stdin?.write(`${text}\n`)
  }

  /** Stops the process and waits until it has ended. */
  async end(): Promise<void> {
    if (this.#outcome === undefined) this.#child.kill('SIGTERM')
    const kill = setTimeout(() => this.#child.kill('SIGKILL'), STOP_TIMEOUT_MS)
    await this.#ended
    clearTimeout(kill)
  }

  // The first line of standard error is one JSON value if the command failed with an error.
  #reason(): string {
    const [first = ''] = this.#errorOutput.split('\n', 1)
    try {
      return `: ${(JSON.parse(first) as { error: { message: string } }).error.message}`
    } catch {
      return first === '' ? '' : `: ${first}`
    }
  }
}

// An emulated Node cannot be started by its path alone. VMCLOCK_NODE then holds the program and its
// first arguments as a JSON array.
function nodeCommand(): [string, ...string[]] {
  const words: unknown = JSON.parse(process.env['VMCLOCK_NODE'] ?? '[]')
  if (Array.isArray(words) && words.length > 0 && words.every((word) => typeof word === 'string')) {
    return words as [string, ...string[]]
  }
  return [process.execPath]
}
