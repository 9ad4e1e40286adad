// The benchmark's CT in a stack viewport of cornerstone3D (WebGL), for benchmarks/viewer.py: seconds until it stands, ms a slice.
import * as cornerstone from '@cornerstonejs/core'

window.cornerstonePeer = async ([nx, ny, nz], steps) => {
  const { Enums, RenderingEngine, imageLoader, init } = cornerstone
  await init()
  const element = Object.assign(document.createElement('div'), { style: 'width: 900px; height: 700px' })
  document.body.append(element)
  const pixels = new Int16Array(nx * ny * nz)
  for (let i = 0; i < pixels.length; i++) pixels[i] = (i * 2654435761) >>> 21
  const drawn = (act) => new Promise((done) => {
    element.addEventListener(Enums.Events.IMAGE_RENDERED, () => {
      const canvas = element.querySelector('canvas')
      canvas.getContext('2d').getImageData(canvas.width >> 1, canvas.height >> 1, 1, 1)
      done(performance.now())
    }, { once: true })
    act()
  })
  const started = performance.now()
  const engine = new RenderingEngine('peer')
  engine.enableElement({ viewportId: 'ct', element, type: Enums.ViewportType.STACK })
  const ids = Array.from({ length: nz }, (_, z) => `peer:${z}`)
  ids.forEach((id, z) => imageLoader.createAndCacheLocalImage(id, {
    scalarData: pixels.subarray(z * nx * ny, (z + 1) * nx * ny), dimensions: [nx, ny], spacing: [0.78, 0.78],
    origin: [0, 0, z * 1.25], direction: [1, 0, 0, 0, 1, 0, 0, 0, 1], frameOfReferenceUID: '1.2.3',
  }))
  const viewport = engine.getViewport('ct')
  const first = await drawn(async () => {
    await viewport.setStack(ids, nz >> 1)
    viewport.setProperties({ voiRange: { lower: -160, upper: 240 } })
    viewport.render()
  })
  const times = []
  for (let i = 0; i < steps; i++) {
    const at = performance.now()
    times.push((await drawn(() => viewport.setImageIdIndex((nz >> 1) + (i % 20 < 10 ? i % 10 : 9 - (i % 10)) + 1).then(() => viewport.render()))) - at)
  }
  element.remove()
  return { open: first - started, times }
}
