// A talk with a program in the guest: it says lines, of its own accord and in answer to lines, and
// ends at the line `end`.

export class Dialogue {
  #console
  #lines = []
  #wanted
  #failure
  #ended

  /** `execute` starts the program, or takes over one that runs: as `GuestConsole.execute`. */
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

  /** The next line that the program says. */
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

  /** Waits for the program to say that it is ready, as its first line. */
  async ready() {
    const line = await this.next()
    if (line !== 'ready') throw new Error(`not ready: ${line}\n${await this.#ended}`)
  }

  /** Types a line, and gives the next one that the program says. */
  ask(line = 'ask') {
    this.#console.send(line)
    return this.next()
  }

  /** Lets the program end; it has to end well, and to have nothing more to say. */
  async end() {
    this.#console.send('end')
    const how = await this.#ended
    if (how !== 'exit code 0' || this.#lines.length > 0) throw this.#failure
  }
}
