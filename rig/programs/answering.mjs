// The guest's side of a dialogue with the host.

import { readSync, writeSync } from 'node:fs'

/**
 * Answers each line with the result of `answer`, until a line is `end`. It blocks instead of using the event
 * loop, which would widen the host's bracket around the answer.
 */
export function answerEach(answer) {
  const line = Buffer.alloc(64)
  writeSync(1, 'ready\n')
  while (line.toString('latin1', 0, readSync(0, line)) !== 'end\n') writeSync(1, `${answer()}\n`)
}
