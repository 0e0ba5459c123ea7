/* Kokoro's decoder on a CPU: one-dimensional convolutions with the normalisation and activation before them and the
   sums after them in one pass over the memory. kernel.py makes the list of steps; here is how each is done.

   Everything is (rows, channels), channels side by side. A convolution's work is cut into items that threads take from a
   counter, so one that the system has put aside holds up little; between two steps all wait for each other. What is
   computed does not depend on the number of threads.

   Two ways to multiply:
   - AMX (Intel since 2023): bfloat16 tiles, float32 sums. A float32 is the sum of three bfloat16, and two of them hold
     17 of its 24 bits, which is enough for weights: the products of three parts by two, but for the smallest.
   - Vectors of whatever the compiler was told to use: float32, exact.

   Nothing here allocates but each thread's workspace; no global state. Compiled as a plain shared library, called
   through ctypes, which lets other Python threads run meanwhile. */

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AMX_BF16__) && defined(__AMX_TILE__) && defined(__AVX512BF16__) && defined(__linux__)
#define HAVE_AMX 1
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#define HAVE_AMX 0
#endif

#if defined(__AVX512F__)
enum { LANES = 16, PANEL_VECTORS = 4 };
#elif defined(__AVX__)
enum { LANES = 8, PANEL_VECTORS = 2 };
#else
enum { LANES = 4, PANEL_VECTORS = 4 };
#endif
enum {
  INTERFACE = 2,               /* of kernel.py: raise it whenever Step or the packing changes */
  BLOCK = 32,                  /* rows and channels that are multiplied, finished and summed up at once */
  MICRO_ROWS = 6,              /* of the vector product: 6 x PANEL_VECTORS sums stay in registers */
  PANEL = LANES * PANEL_VECTORS,
  LONGEST = 256,               /* rows of an item */
  LOOKS = 1000,                /* some 0.07 ms on a processor of 2 GHz */
  DEPTH = 128,                 /* channels whose panel of weights stays in the first-level cache */
};

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

enum { CONVOLUTION, SUM, POOL };
enum { NO_ACTIVATION, LEAKY, SNAKE };

typedef struct {
  int64_t kind, parts; /* bfloat16 that a number of `in` is cut into, 1 or 3; 0: multiplied by vectors */
  /* what comes in: (rows, channels), channels a multiple of BLOCK, rows stride floats apart */
  const float *in;
  int64_t rows, stride, channels;
  /* before the product: x * scale, or instance norm by in_moments, gain and offset; then an activation */
  double scale;
  const float *in_moments, *gain, *offset;
  int64_t activation;
  double slope;
  const float *alpha; /* (2, channels): alpha, 1 / alpha */
  /* the product: out[t] = sum over k of in[t + k * dilation - padding] @ weights[k] */
  int64_t taps, dilation, padding, out_channels;
  const void *weights;
  const float *bias;
  void *activated; /* workspace for all activated rows, or NULL: a few at a time, in the thread's own */
  /* after it: (sum + first + second) * out_scale */
  float *out;
  int64_t out_rows, out_stride;
  const float *first; /* or NULL; first_shift 1: row t / 2 of it */
  int64_t first_stride, first_shift;
  const float *second; /* or NULL */
  int64_t second_stride;
  double out_scale;
  float *out_moments; /* or NULL; (blocks, 2, out_channels): mean and sum of squares around it, of BLOCK rows each */
} Step;

typedef struct {
  const Step *steps;
  int64_t count;
  int threads;
  atomic_long *next; /* item of each phase, two phases a step */
  pthread_mutex_t mutex;
  pthread_cond_t all_here;
  atomic_int waiting;
  atomic_long round;
} Run;

typedef struct {
  Run *run;
  char *own; /* its workspace */
  pthread_t thread;
} Worker;

/* --- threads -------------------------------------------------------------------------------------------------------- */

static inline void rest(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/* The last one comes a few microseconds after the others, mostly, and to sleep and be woken takes longer; so they look
   for a while before they sleep. */
static void wait_for_all(Run *run) {
  if (run->threads == 1) return;
  long round = atomic_load(&run->round);
  if (atomic_fetch_add(&run->waiting, 1) + 1 == run->threads) {
    atomic_store(&run->waiting, 0);
    pthread_mutex_lock(&run->mutex);
    atomic_store(&run->round, round + 1);
    pthread_cond_broadcast(&run->all_here);
    pthread_mutex_unlock(&run->mutex);
    return;
  }
  for (int i = 0; i < LOOKS; i++) {
    if (atomic_load(&run->round) != round) return;
    rest();
  }
  pthread_mutex_lock(&run->mutex);
  while (atomic_load(&run->round) == round) pthread_cond_wait(&run->all_here, &run->mutex);
  pthread_mutex_unlock(&run->mutex);
}

static inline int64_t weight_parts(int64_t parts) { return parts == 3 ? 2 : 1; }
static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t rounded_up(int64_t number, int64_t to) { return (number + to - 1) / to * to; }

/* --- normalisation and activation ----------------------------------------------------------------------------------- */

/* Instance norm as x * scale + shift, for all channels. */
static void affine_of(const Step *step, float *scale, float *shift) {
  if (!step->in_moments) {
    for (int64_t c = 0; c < step->channels; c++) scale[c] = (float)step->scale, shift[c] = 0;
    return;
  }
  int64_t blocks = (step->rows + BLOCK - 1) / BLOCK, channels = step->channels;
  int64_t last = step->rows - (blocks - 1) * BLOCK;
  for (int64_t c0 = 0; c0 < channels; c0 += BLOCK) {
    double mean[BLOCK] = {0}, squares[BLOCK] = {0};
    for (int64_t b = 0; b < blocks; b++) {
      const float *means = step->in_moments + b * 2 * channels + c0;
      double n = b == blocks - 1 ? last : BLOCK;
      for (int c = 0; c < BLOCK; c++) mean[c] += n * means[c];
    }
    for (int c = 0; c < BLOCK; c++) mean[c] /= step->rows;
    for (int64_t b = 0; b < blocks; b++) {
      const float *means = step->in_moments + b * 2 * channels + c0;
      double n = b == blocks - 1 ? last : BLOCK;
      for (int c = 0; c < BLOCK; c++) {
        double off = means[c] - mean[c];
        squares[c] += means[channels + c] + n * off * off;
      }
    }
    for (int c = 0; c < BLOCK; c++) {
      double s = step->gain[c0 + c] / sqrt(squares[c] / step->rows + 1e-5); /* torch's epsilon */
      scale[c0 + c] = (float)s;
      shift[c0 + c] = (float)(step->offset[c0 + c] - mean[c] * s);
    }
  }
}

/* sin(x)^2: x modulo pi by two-part subtraction, a polynomial up to x^11 on -pi/2 .. pi/2; error below 3e-7
   up to 1e4, beyond which float32 has no phase to speak of. */
static inline vec sine_squared(vec x) {
  const float magic = 12582912.f; /* 1.5 * 2^23: adding it rounds to an integer */
  vec n = (x * 0.318309886f + magic) - magic;
  vec r = x - n * 3.140625f;
  r = r - n * 9.67502593994140625e-4f;
  r = r - n * 1.509957990978376e-7f;
  vec q = r * r;
  vec p = q * -2.3889859e-8f + 2.7525562e-6f;
  p = p * q - 1.9840874e-4f;
  p = p * q + 8.3333310e-3f;
  p = p * q - 1.6666667e-1f;
  vec s = r + r * q * p;
  return s * s;
}

static inline vec activated(const Step *step, vec x, int64_t c) {
  if (step->activation == SNAKE) {
    vec alpha = *(const vec *)(step->alpha + c), inverse = *(const vec *)(step->alpha + step->channels + c);
    return x + inverse * sine_squared(alpha * x);
  }
  if (step->activation == LEAKY) {
    vec lower = x * (float)step->slope;
    ivec positive = x > 0;
    return (vec)(((ivec)x & positive) | ((ivec)lower & ~positive));
  }
  return x;
}

#if HAVE_AMX
static inline void store_parts(char *to, int64_t plane, vec x, int64_t parts) {
  __m512 rest = (__m512)x;
  for (;; to += plane) {
    __m256i part = (__m256i)_mm512_cvtneps_pbh(rest);
    _mm256_storeu_si256((__m256i *)to, part);
    if (--parts == 0) return;
    rest = _mm512_sub_ps(rest, (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(part), 16));
  }
}
#endif

/* Rows first..last of the activated input, zeros outside of it. `plane`: bytes from one part of all rows to the next. */
static void activate_rows(const Step *step, int64_t parts, const float *scale, const float *shift, int64_t first,
                          int64_t last, char *to, int64_t plane) {
  int64_t channels = step->channels, size = parts ? 2 : 4;
  for (int64_t row = first; row < last; row++, to += channels * size) {
    if (row < 0 || row >= step->rows) {
      memset(to, 0, channels * size);
      for (int64_t part = 1; part < parts; part++) memset(to + part * plane, 0, channels * size);
      continue;
    }
    const float *in = step->in + row * step->stride;
    for (int64_t c = 0; c < channels; c += LANES) {
      vec x = *(const vec *)(in + c) * *(const vec *)(scale + c) + *(const vec *)(shift + c);
      x = activated(step, x, c);
#if HAVE_AMX
      if (parts) {
        store_parts(to + 2 * c, plane, x, parts);
        continue;
      }
#endif
      *(vec *)(to + 4 * c) = x;
    }
  }
}

/* --- after the product ---------------------------------------------------------------------------------------------- */

/* Up to BLOCK rows and `width` channels of sums: bias and additions, out, and their moments. */
static void finish(const Step *step, int64_t row, int64_t channel, float *sums, int64_t ld, int64_t width) {
  int64_t rows = smaller(BLOCK, step->out_rows - row), channels = step->out_channels;
  for (int64_t c = 0; c < width; c += LANES) {
    vec bias = step->bias ? *(const vec *)(step->bias + channel + c) : (vec){0};
    vec total = {0};
    for (int64_t r = 0; r < rows; r++) {
      vec x = *(vec *)(sums + r * ld + c) + bias;
      int64_t at = row + r;
      if (step->first) x += *(const vec *)(step->first + (at >> step->first_shift) * step->first_stride + channel + c);
      if (step->second) x += *(const vec *)(step->second + at * step->second_stride + channel + c);
      x *= (float)step->out_scale;
      *(vec *)(step->out + at * step->out_stride + channel + c) = x;
      *(vec *)(sums + r * ld + c) = x;
      total += x;
    }
    if (!step->out_moments) continue;
    float *moments = step->out_moments + row / BLOCK * 2 * channels + channel + c;
    vec mean = total * (1.0f / rows), squares = {0};
    for (int64_t r = 0; r < rows; r++) {
      vec off = *(vec *)(sums + r * ld + c) - mean;
      squares += off * off;
    }
    *(vec *)moments = mean;
    *(vec *)(moments + channels) = squares;
  }
}

/* --- the product, by AMX -------------------------------------------------------------------------------------------- */

#if HAVE_AMX
static void configure_tiles(void) {
  struct {
    uint8_t palette, start;
    uint8_t reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
  } __attribute__((packed)) tiles = {.palette = 1};
  for (int i = 0; i < 8; i++) tiles.bytes[i] = 64, tiles.rows[i] = 16;
  _tile_loadconfig(&tiles);
}

static inline __attribute__((always_inline)) void multiply_loaded_tiles(void) {
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}

static inline __attribute__((always_inline)) void load_rows(const char *a, int64_t row) {
  _tile_loadd(4, a, row);
  _tile_loadd(5, a + 16 * row, row);
}

static inline __attribute__((always_inline)) void load_weights(const char *weights) {
  _tile_loadd(6, weights, 64);
  _tile_loadd(7, weights + 1024, 64);
}

/* BLOCK rows times BLOCK channels. in: bfloat16 rows, `row` bytes apart, the parts of a number `plane` bytes apart;
   weights: tiles in the order they are used. */
static inline __attribute__((always_inline)) void multiply_tiles(const char *in, int64_t row, int64_t plane,
                                                                 const char *weights, const Step *step, float *sums,
                                                                 const int parts) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t k = 0; k < step->taps; k++) {
    const char *a = in + k * step->dilation * row;
    for (int64_t c = 0; c < step->channels; c += BLOCK, a += 64, weights += weight_parts(parts) * 2048) {
      if (parts == 1) {
        load_rows(a, row);
        load_weights(weights);
        multiply_loaded_tiles();
        continue;
      }
      load_rows(a + plane, row); /* so ordered that the next product finds one of its factors loaded */
      load_weights(weights + 2048);
      multiply_loaded_tiles();
      load_rows(a, row);
      multiply_loaded_tiles();
      load_weights(weights);
      multiply_loaded_tiles();
      load_rows(a + plane, row);
      multiply_loaded_tiles();
      load_rows(a + 2 * plane, row);
      multiply_loaded_tiles();
    }
  }
  _tile_stored(0, sums, 4 * BLOCK);
  _tile_stored(1, sums + 16, 4 * BLOCK);
  _tile_stored(2, sums + 16 * BLOCK, 4 * BLOCK);
  _tile_stored(3, sums + 16 * BLOCK + 16, 4 * BLOCK);
}

/* Rows `row` .. `end` of the output, channels `channel` .. `stop`. in: the activated row that `row` begins with. */
static void convolve_tiles(const Step *step, const char *in, int64_t plane, int64_t row, int64_t end,
                           int64_t channel, int64_t stop) {
  float sums[BLOCK * BLOCK] __attribute__((aligned(64)));
  int64_t bytes = 2 * step->channels;
  int64_t block = bytes * step->taps * BLOCK * weight_parts(step->parts);
  /* Weights that stay in the second-level cache are gone through for each block of rows, else rows for each block. */
  int rows_outside = block * (stop - channel) / BLOCK <= 800000;
  int64_t row_blocks = (end - row + BLOCK - 1) / BLOCK, channel_blocks = (stop - channel) / BLOCK;
  for (int64_t i = 0; i < row_blocks * channel_blocks; i++) {
    int64_t r = rows_outside ? i / channel_blocks : i % row_blocks;
    int64_t c = channel / BLOCK + (rows_outside ? i % channel_blocks : i / row_blocks);
    const char *a = in + r * BLOCK * bytes, *weights = (const char *)step->weights + c * block;
    if (step->parts == 1) multiply_tiles(a, bytes, plane, weights, step, sums, 1);
    if (step->parts == 3) multiply_tiles(a, bytes, plane, weights, step, sums, 3);
    finish(step, row + r * BLOCK, c * BLOCK, sums, BLOCK, BLOCK);
  }
}
#endif

/* --- the product, by vectors ---------------------------------------------------------------------------------------- */

static inline __attribute__((always_inline)) void multiply_vectors(const float *a, int64_t lda, const float *b,
                                                                   int64_t depth, float *sums, int64_t ld,
                                                                   const int vectors) {
  vec acc[MICRO_ROWS][PANEL_VECTORS];
#pragma GCC unroll 6
  for (int r = 0; r < MICRO_ROWS; r++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) acc[r][v] = *(vec *)(sums + r * ld + v * LANES);
  for (int64_t k = 0; k < depth; k++, b += vectors * LANES) {
    vec weights[PANEL_VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) weights[v] = *(const vec *)(b + v * LANES);
#pragma GCC unroll 6
    for (int r = 0; r < MICRO_ROWS; r++) {
      float x = a[r * lda + k];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) acc[r][v] += weights[v] * x;
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < MICRO_ROWS; r++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) *(vec *)(sums + r * ld + v * LANES) = acc[r][v];
}

static void convolve_vectors(const Step *step, const float *in, float *sums, int64_t row, int64_t end,
                             int64_t channel, int64_t stop) {
  int64_t channels = step->channels, rows = rounded_up(end - row, BLOCK);
  for (int64_t c = channel; c < stop; c += PANEL) {
    int64_t width = smaller(PANEL, step->out_channels - c);
    const float *weights = (const float *)step->weights + c * step->taps * channels;
    memset(sums, 0, (rows + MICRO_ROWS) * PANEL * 4);
    for (int64_t k = 0; k < step->taps; k++)
      for (int64_t d = 0; d < channels; d += DEPTH) {
        int64_t depth = smaller(DEPTH, channels - d);
        for (int64_t r = 0; r < rows; r += MICRO_ROWS) {
          const float *a = in + (r + k * step->dilation) * channels + d;
          if (width == PANEL)
            multiply_vectors(a, channels, weights, depth, sums + r * PANEL, PANEL, PANEL_VECTORS);
          else
            multiply_vectors(a, channels, weights, depth, sums + r * PANEL, PANEL, PANEL_VECTORS / 2);
        }
        weights += depth * width;
      }
    for (int64_t r = 0; row + r < end; r += BLOCK) finish(step, row + r, c, sums + r * PANEL, PANEL, width);
  }
}

/* --- steps ---------------------------------------------------------------------------------------------------------- */

static int64_t chunk_of(const Step *step, int threads) { /* rows of an item: even shares, halos that do not weigh */
  int64_t even = rounded_up((step->out_rows + 4 * threads - 1) / (4 * threads), BLOCK);
  return even < 64 ? 64 : even > LONGEST ? LONGEST : even;
}

static int64_t halo_of(const Step *step) { return (step->taps - 1) * step->dilation; }

static void convolve(Run *run, const Step *step, int64_t number, char *own) {
  int64_t channels = step->channels, size = step->parts ? 2 : 4, chunk = chunk_of(step, run->threads);
  int64_t chunks = (step->out_rows + chunk - 1) / chunk, halo = halo_of(step);
  float *scale = (float *)own, *shift = scale + channels, *sums = shift + channels;
  char *rows = (char *)(sums + (LONGEST + MICRO_ROWS) * PANEL);
  int64_t plane = size * channels * (step->activated ? rounded_up(step->out_rows, BLOCK) + halo + MICRO_ROWS
                                                     : chunk + halo + MICRO_ROWS);
  affine_of(step, scale, shift);
  int64_t share = step->out_channels; /* channels of an item */
  if (step->activated) {
    int64_t all = rounded_up(step->out_rows, BLOCK) + halo + MICRO_ROWS, blocks = (all + BLOCK - 1) / BLOCK, item;
    while ((item = atomic_fetch_add(&run->next[2 * number], 1)) < blocks) {
      int64_t row = item * BLOCK;
      activate_rows(step, step->parts, scale, shift, row - step->padding, smaller(row + BLOCK, all) - step->padding,
                    (char *)step->activated + row * channels * size, plane);
    }
    wait_for_all(run);
    share = PANEL > BLOCK ? PANEL : BLOCK;
  }
  int64_t shares = (step->out_channels + share - 1) / share, item;
  while ((item = atomic_fetch_add(&run->next[2 * number + 1], 1)) < chunks * shares) {
    int64_t row = item % chunks * chunk, end = smaller(row + chunk, step->out_rows);
    int64_t channel = item / chunks * share, stop = smaller(channel + share, step->out_channels);
    char *in = rows;
    if (step->activated)
      in = (char *)step->activated + row * channels * size;
    else
      activate_rows(step, step->parts, scale, shift, row - step->padding,
                    row - step->padding + rounded_up(end - row, BLOCK) + halo + MICRO_ROWS, rows, plane);
#if HAVE_AMX
    if (step->parts) {
      convolve_tiles(step, in, plane, row, end, channel, stop);
      continue;
    }
#endif
    convolve_vectors(step, (const float *)in, sums, row, end, channel, stop);
  }
}

/* out = in + first, and the moments of that. */
static void sum(Run *run, const Step *step, int64_t number, char *own) {
  int64_t blocks = (step->out_rows + BLOCK - 1) / BLOCK, item;
  float *sums = (float *)own;
  while ((item = atomic_fetch_add(&run->next[2 * number], 1)) < blocks)
    for (int64_t c = 0; c < step->out_channels; c += BLOCK) {
      int64_t row = item * BLOCK, rows = smaller(BLOCK, step->out_rows - row);
      for (int64_t r = 0; r < rows; r++)
        memcpy(sums + r * BLOCK, step->in + (row + r) * step->stride + c, 4 * BLOCK);
      finish(step, row, c, sums, BLOCK, BLOCK);
    }
}

/* Each channel by itself: norm, activation, then a transposed convolution of 3 taps and stride 2.
   weights: (3, channels); out row 2t gets tap 1 of row t, row 2t + 1 tap 2 of row t and tap 0 of row t + 1. */
static void pool(Run *run, const Step *step, int64_t number, char *own) {
  int64_t channels = step->channels, item;
  float *scale = (float *)own, *shift = scale + channels, *rows = shift + channels;
  const float *taps = step->weights;
  affine_of(step, scale, shift);
  while ((item = atomic_fetch_add(&run->next[2 * number], 1)) < step->rows) {
    activate_rows(step, 0, scale, shift, item, item + 2, (char *)rows, 0);
    float *even = step->out + 2 * item * step->out_stride, *odd = even + step->out_stride;
    for (int64_t c = 0; c < channels; c++) {
      even[c] = step->bias[c] + taps[channels + c] * rows[c];
      odd[c] = step->bias[c] + taps[2 * channels + c] * rows[c] + taps[c] * rows[channels + c];
    }
  }
}

static void *work(void *argument) {
  Worker *worker = argument;
  Run *run = worker->run;
  pthread_mutex_lock(&run->mutex); /* until it is known how many there are */
  pthread_mutex_unlock(&run->mutex);
#if HAVE_AMX
  int tiles = 0;
  for (int64_t i = 0; i < run->count; i++) tiles |= run->steps[i].parts > 0;
  if (tiles) configure_tiles();
#endif
  for (int64_t i = 0; i < run->count; i++) {
    const Step *step = run->steps + i;
    if (step->kind == CONVOLUTION) convolve(run, step, i, worker->own);
    if (step->kind == SUM) sum(run, step, i, worker->own);
    if (step->kind == POOL) pool(run, step, i, worker->own);
    wait_for_all(run);
  }
#if HAVE_AMX
  if (tiles) _tile_release();
#endif
  return NULL;
}

/* --- what kernel.py calls ------------------------------------------------------------------------------------------- */

int kokoro_interface(void) { return INTERFACE; }
int kokoro_step_bytes(void) { return sizeof(Step); }
int kokoro_panel(void) { return PANEL; }

/* Whether this machine has the instructions that this file was compiled to. */
int kokoro_runs_here(void) {
#if defined(__x86_64__)
#if !defined(__AVX2__) && !defined(ANY_VECTORS)
  return 0; /* plain torch is faster than vectors of four */
#endif
  __builtin_cpu_init();
#if defined(__AVX512F__)
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl"))
    return 0;
#endif
#if defined(__AVX512VBMI__)
  if (!__builtin_cpu_supports("avx512vbmi")) return 0;
#endif
#if defined(__AVX512BF16__)
  if (!__builtin_cpu_supports("avx512bf16")) return 0;
#endif
#if defined(__AVX2__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
#endif
#endif
  return 1;
}

/* Whether bfloat16 tiles can be used; asks the system for them, which Linux grants to a whole process. */
int kokoro_has_tiles(void) {
#if HAVE_AMX
  unsigned a = 7, b, c = 0, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  if (!(d >> 22 & 1) || !(d >> 24 & 1)) return 0; /* AMX-BF16, AMX-TILE */
  a = 7, c = 1;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  if (!(a >> 5 & 1)) return 0;                                      /* AVX512-BF16 */
  return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* XFEATURE_XTILEDATA */) == 0;
#else
  return 0;
#endif
}

/* Does the steps in order, on this thread and threads - 1 more; blocks. Returns 0; -1 if there
   is no memory, -2 for parts of numbers that this was not compiled for. */
int kokoro_run(const Step *steps, int64_t count, int threads) {
  Run run = {.steps = steps, .count = count, .mutex = PTHREAD_MUTEX_INITIALIZER, .all_here = PTHREAD_COND_INITIALIZER};
  int64_t bytes = 0;
  for (int64_t i = 0; i < count; i++) {
    if (steps[i].parts && (!HAVE_AMX || (steps[i].parts != 1 && steps[i].parts != 3))) return -2;
    int64_t rows = steps[i].activated ? BLOCK : LONGEST + halo_of(steps + i) + MICRO_ROWS;
    int64_t size = steps[i].parts ? 2 * steps[i].parts : 4;
    int64_t needed = 4 * (2 * steps[i].channels + (LONGEST + MICRO_ROWS) * PANEL) + size * rows * steps[i].channels;
    if (needed > bytes) bytes = rounded_up(needed, 64);
  }
  run.next = calloc(2 * count, sizeof *run.next);
  Worker *workers = calloc(threads, sizeof *workers);
  char *own = aligned_alloc(64, bytes * threads);
  int failed = !run.next || !workers || !own;
  if (!failed) {
    pthread_mutex_lock(&run.mutex);
    for (int i = 0; i < threads; i++) workers[i] = (Worker){.run = &run, .own = own + i * bytes};
    run.threads = 1;
    while (run.threads < threads && !pthread_create(&workers[run.threads].thread, NULL, work, workers + run.threads))
      run.threads++;
    pthread_mutex_unlock(&run.mutex);
    work(workers);
    for (int i = 1; i < run.threads; i++) pthread_join(workers[i].thread, NULL);
  }
  free((void *)run.next);
  free(workers);
  free(own);
  return -failed;
}
