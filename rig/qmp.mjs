// QEMU's machine protocol, as far as a rig needs it: one command at a time, and its answer.
// (QEMU: docs/interop/qmp-spec.rst.)

import { connect } from 'node:net'
import { createInterface } from 'node:readline'

/** The control of a running machine. */
export class MachineControl {
  #socket
  #messages

  constructor(socket) {
    this.#socket = socket
    this.#messages = createInterface({ input: socket })[Symbol.asyncIterator]()
  }

  /** Connects to the socket at `path`, on which QEMU listens. */
  static async connect(path) {
    const socket = connect(path)
    await new Promise((resolve, reject) => {
      socket.once('connect', resolve).once('error', reject)
    })
    // When the machine ends, the console says why.
    socket.on('error', () => {})
    const control = new MachineControl(socket)
    await control.#message()
    await control.execute('qmp_capabilities')
    return control
  }

  /** Executes a command and gives what it returns. */
  async execute(command, args = {}) {
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`)
    while (true) {
      const message = await this.#message()
      if (message.error !== undefined) throw new Error(`${command}: ${message.error.desc}`)
      if (message.return !== undefined) return message.return
      // Anything else is an event, of which there are some whenever the machine stops or goes on.
    }
  }

  close() {
    this.#socket.destroy()
  }

  async #message() {
    const { done, value } = await this.#messages.next()
    if (done) throw new Error('the machine closed its control socket')
    return JSON.parse(value)
  }
}
