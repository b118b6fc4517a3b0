/** Makes classes work with `using`. */

// Polyfills and compilers' helpers use the second symbol in a runtime without `Symbol.dispose`.
const DISPOSE: symbol = Symbol.dispose ?? Symbol.for('Symbol.dispose')

/** Adds a dispose method to a class, which calls `close`. */
export function makeDisposable(type: { readonly prototype: { close(): void } }): void {
  Object.defineProperty(type.prototype, DISPOSE, {
    value: function dispose(this: { close(): void }): void {
      this.close()
    },
    configurable: true,
    writable: true,
  })
}
