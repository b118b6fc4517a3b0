/** Text from pages, paths and arguments, made safe for a terminal and for a log. */

// C0 and DEL, C1, marks that turn or hide text (bidirectional, zero-width, line separators, byte
// order mark, tags), and halves of surrogate pairs.
const UNSAFE =
  /[\p{Cc}\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]|\p{Cs}/gu

/** One line of text in which nothing can move a cursor, change a colour or turn the direction. */
export function printable(text: string): string {
  return text.replace(UNSAFE, (unsafe) => `\\u{${(unsafe.codePointAt(0) ?? 0).toString(16)}}`)
}

/** JSON on one line, with 64-bit figures as decimal strings and nothing unsafe in its strings. */
export function json(value: unknown): string {
  const text = JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === 'bigint' ? String(inner) : inner,
  )
  // Whatever is unsafe can only stand within a string, where \u escapes mean the same.
  return text.replace(UNSAFE, (unsafe) =>
    Array.from(
      { length: unsafe.length },
      (_none, index) => `\\u${unsafe.charCodeAt(index).toString(16).padStart(4, '0')}`,
    ).join(''),
  )
}
