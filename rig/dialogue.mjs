// A dialogue with a program in the guest. The program prints lines, some of them as answers to lines from
// the host. It ends at the line `end`.

export class Dialogue {
  #console
  #lines = []
  #wanted
  #failure
  #ended

  /** `execute` starts the program, or attaches to a running one. See `GuestConsole`. */
  constructor(console, execute) {
    this.#console = console
    this.#ended = execute({
      onText: (text) => {
        this.#lines.push(text.trimEnd())
        this.#wanted?.resolve()
      },
    }).then(
      (exitCode) => `exit code ${exitCode}`,
      (error) => error.message,
    )
    this.#ended.then((how) => {
      this.#failure = new Error(`the program ended too soon: ${how}\n${this.#lines.join('\n')}`)
      this.#wanted?.reject(this.#failure)
    })
  }

  /** Returns the next line that the program prints. */
  async next() {
    if (this.#lines.length === 0) {
      if (this.#failure !== undefined) throw this.#failure
      await new Promise((resolve, reject) => {
        this.#wanted = { resolve, reject }
      })
      this.#wanted = undefined
    }
    return this.#lines.shift()
  }

  /** Waits for the program's first line, which must be `ready`. */
  async ready() {
    const line = await this.next()
    if (line !== 'ready') throw new Error(`not ready: ${line}\n${await this.#ended}`)
  }

  /** Sends a line, and returns the next line that the program prints. */
  ask(line = 'ask') {
    this.#console.send(line)
    return this.next()
  }

  /** Ends the program. Throws if its exit code is not 0, or if it printed another line. */
  async end() {
    this.#console.send('end')
    const how = await this.#ended
    if (how !== 'exit code 0' || this.#lines.length > 0) throw this.#failure
  }
}
