/** The demo's other process: `vmclock publish`, steered by its standard input. */

import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { VmClockError } from '../errors'

// How long it may take to end when it is asked to.
const PATIENCE_MS = 5000

/** A process that publishes a page until `end`, and that ends by itself when this one does. */
export class DemoPublisher {
  /** The page that it publishes. */
  readonly path: string
  /** Done when the page stands; fails if the process ends before. */
  readonly stands: Promise<void>
  readonly #child: ChildProcess
  readonly #ended: Promise<void>
  #complaints = ''
  #outcome: string | undefined

  constructor(path: string) {
    this.path = path
    const [program, ...beforeScript] = nodeCommand()
    this.#child = spawn(
      program,
      [...beforeScript, process.argv[1] ?? '', 'publish', path, '--json', '--interval', '100ms'],
      {
        // The channel tells the child when this process is gone, however it went. A process group
        // of its own keeps the terminal's interrupt from it: it is stopped from here, in order.
        stdio: ['pipe', 'pipe', 'pipe', 'ipc'],
        detached: true,
      },
    )
    const child = this.#child
    child.stdin?.on('error', () => {})
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#complaints += text
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
      createInterface({ input: child.stdout }).on('line', (text) => {
        if ((JSON.parse(text) as { event: string }).event === 'published') resolve()
      })
    })
    this.stands = Promise.race([published, this.#ended.then(() => this.requireAlive())])
    // It may fail when nobody waits for it any more.
    this.stands.catch(() => {})
  }

  /** The number of the process. */
  get pid(): number | undefined {
    return this.#child.pid
  }

  /** Throws if the process has ended. */
  requireAlive(): void {
    if (this.#outcome === undefined) return
    throw new VmClockError(
      'ERR_VMCLOCK_SYSTEM',
      `the publishing process is gone (${this.#outcome}${this.#reason()}); run \`vmclock publish\` by itself to see why`,
    )
  }

  /** Sends a line to its standard input. */
  command(text: string): void {
    this.#child.stdin?.write(`${text}\n`)
  }

  /** Stops it and waits until it is gone. */
  async end(): Promise<void> {
    if (this.#outcome === undefined) this.#child.kill('SIGTERM')
    const insist = setTimeout(() => this.#child.kill('SIGKILL'), PATIENCE_MS)
    await this.#ended
    clearTimeout(insist)
  }

  // What it said on standard error was one line of JSON.
  #reason(): string {
    const [complaint = ''] = this.#complaints.split('\n', 1)
    try {
      return `: ${(JSON.parse(complaint) as { error: { message: string } }).error.message}`
    } catch {
      return complaint === '' ? '' : `: ${complaint}`
    }
  }
}

// Under an emulator Node cannot be started by its own path alone: VMCLOCK_NODE then holds the words
// that start it, as a JSON array.
function nodeCommand(): [string, ...string[]] {
  const words: unknown = JSON.parse(process.env['VMCLOCK_NODE'] ?? '[]')
  if (Array.isArray(words) && words.length > 0 && words.every((word) => typeof word === 'string')) {
    return words as [string, ...string[]]
  }
  return [process.execPath]
}
