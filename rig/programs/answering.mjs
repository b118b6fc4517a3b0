// The guest's side of a dialogue with the host.

import { readSync, writeSync } from 'node:fs'

/**
 * Answers each line with the result of `answer`, which gets the line, until a line is `end`. It blocks instead of
 * using the event loop, which would widen the host's bracket around the answer.
 */
export function answerEach(answer) {
  const line = Buffer.alloc(64)
  const next = () => line.toString('latin1', 0, readSync(0, line)).trimEnd()
  writeSync(1, 'ready\n')
  for (let text = next(); text !== 'end'; text = next()) writeSync(1, `${answer(text)}\n`)
}
