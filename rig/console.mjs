// The guest's serial console. Each line to the guest is a shell command. The guest answers with the
// command's output, and then with a line of this boot's mark and the command's exit code.

export class GuestConsole {
  #input
  #mark
  #unread = ''
  #command
  #ended

  /** `mark` is a random word, which no program prints. */
  constructor(mark) {
    this.#mark = mark
  }

  /**
   * Connects to the emulator process that runs the guest: at the start, and again when the guest continues
   * in another process. Neither a running command nor its caller notices.
   */
  connect(input, output) {
    this.#input = input
    output.setEncoding('utf8')
    output.on('data', (text) => this.#take(text))
    // A write to an ended guest fails here. `end` reports the reason.
    input.on('error', () => {})
  }

  /** Resolves when the guest's shell waits for its first command. */
  ready(timeoutMs) {
    return this.#await('the boot', () => {}, timeoutMs)
  }

  /**
   * Runs a command in the guest and returns its exit code. `onText` gets each line of its standard output
   * and standard error. `send` writes to its standard input.
   */
  execute(line, { onText = () => {}, timeoutMs = 60_000 } = {}) {
    const ended = this.#await(line, onText, timeoutMs)
    this.#input.write(`${line}\n`)
    return ended
  }

  /** Like `execute`, for the command that was running when this guest was saved. */
  takeOver({ onText = () => {}, timeoutMs = 60_000 } = {}) {
    return this.#await('the command that was running when the guest was saved', onText, timeoutMs)
  }

  /** Writes a line to the standard input of the running command. */
  send(line) {
    this.#input.write(`${line}\n`)
  }

  /** Ends the console when the emulator has ended. A waiting command fails with this reason. */
  end(reason) {
    this.#ended = reason
    this.#command?.reject(new Error(`${reason}\n${this.#command.tail}${this.#unread}`))
    this.#command = undefined
  }

  #await(what, onText, timeoutMs) {
    if (this.#ended !== undefined) return Promise.reject(new Error(this.#ended))
    if (this.#command !== undefined) throw new Error('the guest is running another command')
    return new Promise((resolve, reject) => {
      const command = { onText, tail: '' }
      const settle = (outcome) => (value) => {
        clearTimeout(timer)
        outcome(value)
      }
      command.resolve = settle(resolve)
      command.reject = settle(reject)
      const timer = setTimeout(() => {
        this.end(`the guest did not finish in ${timeoutMs / 1000} s: ${what}`)
      }, timeoutMs)
      this.#command = command
    })
  }

  #take(text) {
    this.#unread += text.replaceAll('\r', '')
    for (let end = this.#unread.indexOf('\n'); end >= 0; end = this.#unread.indexOf('\n')) {
      const line = this.#unread.slice(0, end + 1)
      this.#unread = this.#unread.slice(end + 1)
      this.#takeLine(line)
    }
  }

  #takeLine(line) {
    const command = this.#command
    if (command === undefined) return
    // Anywhere in the line, because a program may leave its last line without a newline.
    const at = line.indexOf(this.#mark)
    const text = at < 0 ? line : line.slice(0, at)
    if (text !== '') {
      command.tail = (command.tail + text).slice(-4000)
      command.onText(text)
    }
    if (at < 0) return
    this.#command = undefined
    command.resolve(Number(line.slice(at + this.#mark.length)))
  }
}
