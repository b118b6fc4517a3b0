/** Says what is wrong with a call of a method without its object. */

import { invalidArgument, type VmClockError } from './errors'

/** Makes the error for a method that was called without its object. */
export function detached(method: string): VmClockError {
  return invalidArgument(
    `${method} was called without its object, as after const { ${method} } = object`,
    `call it as object.${method}(…), or pass (…) => object.${method}(…)`,
  )
}

/**
 * Makes the methods of a class throw that error if `this` is undefined. `hot` names methods that check it
 * themselves: a wrapper would take as long as a timestamp.
 */
export function refuseDetached(
  of: { readonly prototype: object },
  hot: readonly string[] = [],
): void {
  const descriptors = Object.getOwnPropertyDescriptors(of.prototype)
  for (const [name, descriptor] of Object.entries(descriptors)) {
    const method: unknown = descriptor.value
    if (typeof method !== 'function' || name === 'constructor' || hot.includes(name)) continue
    const checking = function (this: unknown, ...args: unknown[]): unknown {
      if (this === undefined) throw detached(name)
      return method.apply(this, args)
    }
    Object.defineProperty(checking, 'name', { value: name })
    Object.defineProperty(checking, 'length', { value: method.length })
    Object.defineProperty(of.prototype, name, { ...descriptor, value: checking })
  }
}
