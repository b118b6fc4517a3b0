// A client for QEMU's machine protocol, one command at a time (QEMU: docs/interop/qmp-spec.rst).

import { createInterface } from 'node:readline'
import { setTimeout } from 'node:timers/promises'

// The protocol has no event for the end of a migration, so the state is polled at this interval.
const QUESTION_MS = 5

/** Controls a running machine. */
export class MachineControl {
  #socket
  #messages
  #ready

  constructor(socket) {
    this.#socket = socket
    this.#messages = createInterface({ input: socket })[Symbol.asyncIterator]()
    // The console reports why a machine ended.
    socket.on('error', () => {})
  }

  /** Saves the state of a stopped machine to a file, without its memory, which is a file already. */
  async saveTo(path) {
    await this.#leaveMemory()
    await this.execute('migrate', { uri: `file:${path}` })
    await this.#migrated()
  }

  /** Restores the state from a file into a waiting machine. The machine does not run yet. */
  async loadFrom(path) {
    await this.#leaveMemory()
    await this.execute('migrate-incoming', { uri: `file:${path}` })
    await this.#migrated()
  }

  /** Executes a command and returns its result. */
  async execute(command, args = {}) {
    this.#ready ??= this.#begin()
    await this.#ready
    return this.#execute(command, args)
  }

  async #begin() {
    await this.#message()
    await this.#execute('qmp_capabilities', {})
  }

  async #execute(command, args) {
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`)
    while (true) {
      const message = await this.#message()
      if (message.error !== undefined) throw new Error(`${command}: ${message.error.desc}`)
      if (message.return !== undefined) return message.return
      // Any other message is an event, for example when the machine stops or continues.
    }
  }

  async #leaveMemory() {
    const capabilities = [{ capability: 'x-ignore-shared', state: true }]
    await this.execute('migrate-set-capabilities', { capabilities })
  }

  async #migrated() {
    while (true) {
      const { status, 'error-desc': reason } = await this.execute('query-migrate')
      if (status === 'completed') return
      if (status === 'failed') throw new Error(`the machine's state: ${reason}`)
      await setTimeout(QUESTION_MS)
    }
  }

  async #message() {
    const { done, value } = await this.#messages.next()
    if (done) throw new Error('the machine closed its control socket')
    return JSON.parse(value)
  }
}
