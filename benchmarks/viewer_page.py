"""What benchmarks/viewer.py runs inside the page: is a case open, slices by key and by wheel, the same CT by
niivue."""

from __future__ import annotations

SHADOW = (
    "const all = (q) => [...document.querySelectorAll('*')].flatMap((e) => (e.shadowRoot ? "
    "[...e.shadowRoot.querySelectorAll(q)] : []));"
)
OPEN = f"() => {{ {SHADOW} return all('.viewport').filter((c) => c.dataset.loaded === '1').length === 3 }}"
STEPS = f"""async (n) => {{ {SHADOW}
  const canvas = all('.pane[data-modality=CT] .viewport')[0]
  canvas.dispatchEvent(new PointerEvent('pointerdown', {{ bubbles: true, pointerId: 1, button: 1 }}))
  const times = []
  for (let i = 0; i < n; i++) {{
    const before = canvas.dataset.index
    const started = performance.now()
    const key = i % 20 < 10 ? 'ArrowUp' : 'ArrowDown'
    document.dispatchEvent(new KeyboardEvent('keydown', {{ key, bubbles: true }}))
    while (canvas.dataset.index === before) await new Promise(requestAnimationFrame)
    canvas.getContext('2d').getImageData(canvas.width >> 1, canvas.height >> 1, 1, 1)
    times.push(performance.now() - started)
  }}
  return times }}"""
WHEEL = f"""async (n) => {{ {SHADOW}
  const canvas = all('.pane[data-modality=CT] .viewport')[0]
  const [waiting, times] = [[], []]
  const drawn = new MutationObserver(() => {{
    canvas.getContext('2d').getImageData(canvas.width >> 1, canvas.height >> 1, 1, 1)
    const now = performance.now()
    while (waiting.length) times.push(now - waiting.shift())
  }})
  drawn.observe(canvas, {{ attributeFilter: ['data-index'] }})
  for (let i = 0; i < n; i++) {{
    waiting.push(performance.now())
    const deltaY = i % 100 < 50 ? 100 : -100
    canvas.dispatchEvent(new WheelEvent('wheel', {{ deltaY, bubbles: true, cancelable: true }}))
    await new Promise((done) => setTimeout(done, 16))
  }}
  await new Promise((done) => setTimeout(done, 300))
  drawn.disconnect()
  return times }}"""
FIRST = f"() => {{ {SHADOW} return all('.viewport').some((c) => c.dataset.loaded === '1') }}"
PEER = f"""async () => {{ {SHADOW}
  const {{ Niivue, NVImage }} = await import(new URL('medfuse/ui/niivue.js', document.baseURI).href)
  const canvas = Object.assign(document.createElement('canvas'), {{ width: 900, height: 700 }})
  document.body.append(canvas)
  const [nx, ny, nz] = [512, 512, 200]
  const buffer = new ArrayBuffer(352 + 2 * nx * ny * nz)
  const header = new DataView(buffer)
  header.setInt32(0, 348, true)
  ;[3, nx, ny, nz, 1, 1, 1, 1].forEach((v, i) => header.setInt16(40 + 2 * i, v, true))
  header.setInt16(70, 4, true); header.setInt16(72, 16, true)
  ;[1, 0.78, 0.78, 1.25].forEach((v, i) => header.setFloat32(76 + 4 * i, v, true))
  header.setFloat32(108, 352, true); header.setFloat32(112, 1, true); header.setInt16(254, 1, true)
  ;[0.78, 0.78, 1.25].forEach((v, i) => header.setFloat32(280 + 16 * i + 4 * i, v, true))
  header.setUint32(344, 0x00312b6e, true)
  const values = new Int16Array(buffer, 352)
  for (let i = 0; i < values.length; i++) values[i] = (i * 2654435761) >>> 21
  const view = new Niivue({{ loadingText: '' }})
  await view.attachToCanvas(canvas)
  const pixel = new Uint8Array(4)
  const flush = () => view.gl.readPixels(0, 0, 1, 1, view.gl.RGBA, view.gl.UNSIGNED_BYTE, pixel)
  const started = performance.now()
  view.addVolume(await NVImage.new(
    buffer, 'v.nii', 'gray', 1, null, -160, 240, true, 0.02, false, false, '', 0, undefined, NaN, NaN, false,
    null, 0, null))
  view.setSliceType(view.sliceTypeAxial)
  flush()
  const open = performance.now() - started
  const times = []
  for (let i = 0; i < 40; i++) {{
    const at = performance.now()
    view.moveCrosshairInVox(0, 0, i < 20 ? 1 : -1)
    flush()
    times.push(performance.now() - at)
  }}
  canvas.remove()
  return {{ open, times }} }}"""
