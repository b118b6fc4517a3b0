// QEMU's machine protocol, as far as a rig needs it: one command at a time, and its answer.
// (QEMU: docs/interop/qmp-spec.rst.)

import { createInterface } from 'node:readline'
import { setTimeout } from 'node:timers/promises'

// While a machine is saved or restored there is nothing to wait for but the answer to the next question.
const QUESTION_MS = 5

/** The control of a running machine. */
export class MachineControl {
  #socket
  #messages
  #ready

  constructor(socket) {
    this.#socket = socket
    this.#messages = createInterface({ input: socket })[Symbol.asyncIterator]()
    // When the machine ends, the console says why.
    socket.on('error', () => {})
  }

  /** Writes the state of a stopped machine to a file: all of it but the memory that is a file's. */
  async saveTo(path) {
    await this.#leaveMemory()
    await this.execute('migrate', { uri: `file:${path}` })
    await this.#migrated()
  }

  /** Gives a machine that waits for its state that of a file. It does not run yet. */
  async loadFrom(path) {
    await this.#leaveMemory()
    await this.execute('migrate-incoming', { uri: `file:${path}` })
    await this.#migrated()
  }

  /** Executes a command and gives what it returns. */
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
      // Anything else is an event, of which there are some whenever the machine stops or goes on.
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
