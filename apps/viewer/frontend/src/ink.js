/** Words on an image: light, with a dark edge, so that they can be read on bone and on air. */

export function write(context, words, x, y, { size = 13, colour = '#dfe6ea', align = 'center', within = 0 } = {}) {
  context.font = `600 ${size}px system-ui, sans-serif`
  if (within) x = Math.max(2, Math.min(x, within - context.measureText(words).width - 4))
  context.textAlign = align
  context.textBaseline = 'middle'
  context.lineWidth = 3
  context.strokeStyle = 'rgba(0,0,0,.85)'
  context.strokeText(words, x, y)
  context.fillStyle = colour
  context.fillText(words, x, y)
}
