/* The peers of vmclock's calls: the cheapest calls into native code.
 *
 * Declares the part of Node-API that it uses, so that no header is needed. The ABI is stable.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct napi_env__ *napi_env;
typedef struct napi_value__ *napi_value;
typedef struct napi_callback_info__ *napi_callback_info;
typedef napi_value (*napi_callback)(napi_env, napi_callback_info);

extern int napi_create_function(napi_env, const char *, size_t, napi_callback, void *, napi_value *);
extern int napi_set_named_property(napi_env, napi_value, const char *, napi_value);
extern int napi_get_cb_info(napi_env, napi_callback_info, size_t *, napi_value *, napi_value *, void **);
extern int napi_get_typedarray_info(napi_env, napi_value, int *, size_t *, void **, napi_value *, size_t *);

/* Reads the counter with the ordering of the kernel's vDSO. */
static inline uint64_t ordered_counter(void) {
#if defined(__x86_64__)
  uint32_t low, high;
  __asm__ volatile("lfence\n\trdtsc" : "=a"(low), "=d"(high) : : "memory");
  return ((uint64_t)high << 32) | low;
#elif defined(__aarch64__)
  uint64_t value, zero;
  __asm__ volatile("isb\n\tmrs %0, cntvct_el0\n\teor %1, %0, %0\n\tldr xzr, [sp, %1]"
                   : "=r"(value), "=r"(zero) : : "memory");
  return value;
#else
#error "unsupported architecture"
#endif
}

/* Reads the counter alone. */
static inline uint64_t bare_counter(void) {
#if defined(__x86_64__)
  uint32_t low, high;
  __asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
  return ((uint64_t)high << 32) | low;
#elif defined(__aarch64__)
  uint64_t value;
  __asm__ volatile("mrs %0, cntvct_el0" : "=r"(value) : : "memory");
  return value;
#endif
}

static volatile uint64_t sink;

static napi_value noop(napi_env env, napi_callback_info info) {
  (void)env;
  (void)info;
  return NULL;
}

static napi_value counter(napi_env env, napi_callback_info info) {
  (void)env;
  (void)info;
  sink = ordered_counter();
  return NULL;
}

static napi_value unordered_counter(napi_env env, napi_callback_info info) {
  (void)env;
  (void)info;
  sink = bare_counter();
  return NULL;
}

/* out[i] = ((counters[i] - reference) * period >> shift) + base: the least that a conversion computes. */
static __attribute__((noinline)) void multiply_all(const uint64_t *counters, int64_t *out, size_t count,
                                                   uint64_t reference, uint64_t period, int shift,
                                                   int64_t base) {
  for (size_t i = 0; i < count; i++) {
    int64_t d = (int64_t)(counters[i] - reference);
    out[i] = base + (int64_t)(((__int128)d * (__int128)(unsigned __int128)period) >> shift);
  }
}

static volatile uint64_t reference = 0, period = 0x62762762ULL << 31;
static volatile int shift = 63;
static volatile int64_t base = 1700000000000000000;

static napi_value multiply(napi_env env, napi_callback_info info) {
  size_t argc = 2, lengths[2] = {0, 0};
  napi_value argv[2];
  void *starts[2] = {NULL, NULL};
  if (napi_get_cb_info(env, info, &argc, argv, NULL, NULL) != 0 || argc != 2) return NULL;
  for (int i = 0; i < 2; i++) {
    if (napi_get_typedarray_info(env, argv[i], NULL, &lengths[i], &starts[i], NULL, NULL) != 0) return NULL;
  }
  if (lengths[1] < lengths[0]) return NULL;
  multiply_all(starts[0], starts[1], lengths[0], reference, period, shift, base);
  return NULL;
}

napi_value napi_register_module_v1(napi_env env, napi_value exports) {
  static const struct {
    const char *name;
    napi_callback callback;
  } calls[] = {{"noop", noop},
               {"counter", counter},
               {"unorderedCounter", unordered_counter},
               {"multiply", multiply}};
  for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
    napi_value function;
    if (napi_create_function(env, calls[i].name, (size_t)-1, calls[i].callback, NULL, &function) != 0 ||
        napi_set_named_property(env, exports, calls[i].name, function) != 0)
      return NULL;
  }
  return exports;
}
