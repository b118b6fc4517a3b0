/** Makes text from pages, paths and arguments safe for a terminal and for a log. */

// C0 and DEL, C1, invisible characters and those that change the text direction (bidirectional,
// zero-width, line separators, byte order mark, tags), and halves of surrogate pairs.
const UNSAFE =
  /[\p{Cc}\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]|\p{Cs}/gu

/** Escapes everything that could move a cursor, change a colour or change the text direction. */
export function printable(text: string): string {
  return text.replace(UNSAFE, (unsafe) => `\\u{${(unsafe.codePointAt(0) ?? 0).toString(16)}}`)
}

/** Formats a value as one line of JSON: bigints as decimal strings, unsafe characters escaped. */
export function json(value: unknown): string {
  const text = JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === 'bigint' ? String(inner) : inner,
  )
  // Unsafe characters occur only inside of strings, where \u escapes mean the same.
  return text.replace(UNSAFE, (unsafe) =>
    Array.from(
      { length: unsafe.length },
      (_none, index) => `\\u${unsafe.charCodeAt(index).toString(16).padStart(4, '0')}`,
    ).join(''),
  )
}
