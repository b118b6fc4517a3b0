// The guest's side of a conversation with the host: one answer for each line that comes in.

import { readSync, writeSync } from 'node:fs'

/**
 * Answers each line with what `answer` gives, until a line is `end`. Without an event loop in between,
 * which would only widen the host's bracket around the answer.
 */
export function answerEach(answer) {
  const line = Buffer.alloc(64)
  writeSync(1, 'ready\n')
  while (line.toString('latin1', 0, readSync(0, line)) !== 'end\n') writeSync(1, `${answer()}\n`)
}
