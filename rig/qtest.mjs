// Raises the interrupts of a running machine through QEMU's test protocol: one line for a command, and one for
// its answer (QEMU: system/qtest.c).

import { createInterface } from 'node:readline'

export class InterruptLines {
  #socket
  #answers
  #control
  #paths = new Map()

  /** `control` is the control of the same machine, which finds the interrupt controllers. */
  constructor(socket, control) {
    this.#socket = socket
    this.#control = control
    this.#answers = createInterface({ input: socket })[Symbol.asyncIterator]()
    // The console reports why a machine ended.
    socket.on('error', () => {})
  }

  /** Raises and lowers a line of the first interrupt controller of this type. */
  async pulse(controllerType, line) {
    const path = await this.#pathOf(controllerType)
    for (const level of [1, 0]) {
      this.#socket.write(`set_irq_in ${path} unnamed-gpio-in ${line} ${level}\n`)
      const { value: answer } = await this.#answers.next()
      if (answer !== 'OK') throw new Error(`interrupt ${line} of ${path}: ${answer}`)
    }
  }

  async #pathOf(controllerType) {
    if (!this.#paths.has(controllerType)) {
      const path = await this.#find(controllerType, '/machine')
      if (path === undefined) throw new Error(`the machine has no ${controllerType}`)
      this.#paths.set(controllerType, path)
    }
    return this.#paths.get(controllerType)
  }

  async #find(type, path) {
    const children = await this.#control.execute('qom-list', { path })
    for (const child of children.filter((entry) => entry.type.startsWith('child<'))) {
      const childPath = `${path}/${child.name}`
      if (child.type === `child<${type}>`) return childPath
      const found = await this.#find(type, childPath)
      if (found !== undefined) return found
    }
    return undefined
  }
}
