// The guest's serial console: a line to the guest is a shell command; what it prints comes back, then
// a line that begins with this boot's mark and ends with the command's exit code.

export class GuestConsole {
  #input
  #mark
  #unread = ''
  #command
  #ended

  /** `mark` is a word that no program prints. */
  constructor(mark) {
    this.#mark = mark
  }

  /**
   * Connects to the machine that the guest is in: when it starts, and again whenever it goes on in
   * another one. What runs in the guest does not notice, and neither does who waits for it here.
   */
  connect(input, output) {
    this.#input = input
    output.setEncoding('utf8')
    output.on('data', (text) => this.#take(text))
    // A guest that has ended can no longer be written to; `end` says why it did.
    input.on('error', () => {})
  }

  /** Resolves when the guest's shell waits for its first command. */
  ready(timeoutMs) {
    return this.#await('the boot', () => {}, timeoutMs)
  }

  /**
   * Runs a command in the guest and gives its exit code. `onText` gets what it prints, standard error
   * too, by whole lines as they come. `send` types to it.
   */
  execute(line, { onText = () => {}, timeoutMs = 60_000 } = {}) {
    const ended = this.#await(line, onText, timeoutMs)
    this.#input.write(`${line}\n`)
    return ended
  }

  /** As `execute`, of the command that already runs: in a guest that was saved while it ran. */
  takeOver({ onText = () => {}, timeoutMs = 60_000 } = {}) {
    return this.#await('what ran when it was saved', onText, timeoutMs)
  }

  /** Types a line to the command that is running. */
  send(line) {
    this.#input.write(`${line}\n`)
  }

  /** To be called when the machine is gone: what still waits for it fails for this reason. */
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
    // Not only at the line's beginning: a program need not end its last line.
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
