/** `using` where the runtime has it. */

// Where it has not, the symbol that polyfills and compilers' helpers agree on.
const DISPOSE: symbol = Symbol.dispose ?? Symbol.for('Symbol.dispose')

/** Makes the objects of a class disposable by way of their `close`. */
export function makeDisposable(type: { readonly prototype: { close(): void } }): void {
  Object.defineProperty(type.prototype, DISPOSE, {
    value: function dispose(this: { close(): void }): void {
      this.close()
    },
    configurable: true,
    writable: true,
  })
}
