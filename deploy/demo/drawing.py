"""drawing.py: the small vocabulary that the demo catalogue's drawings share: colours, cloth patterns, shaded shapes.

Coordinates are those of a 400 x 400 picture, y downwards. Light falls from the upper left, as on a packshot table.
"""

import colorsys

COLOURS = {
    "white": "#f4f2ec", "black": "#2b2b2f", "grey": "#8d9196", "red": "#c6313a", "pink": "#e79ab4",
    "orange": "#e5803a", "yellow": "#ecc440", "green": "#4d9358", "olive": "#7c7d45", "teal": "#2f8b8c",
    "blue": "#3a68b5", "navy": "#27365f", "purple": "#75509b", "brown": "#82563a", "beige": "#d8c3a0",
}
CONTRAST = {
    "white": "navy", "black": "white", "grey": "white", "red": "white", "pink": "red", "orange": "navy",
    "yellow": "brown", "green": "beige", "olive": "beige", "teal": "white", "blue": "white", "navy": "white",
    "purple": "yellow", "brown": "beige", "beige": "brown",
}
WOODS = {"oak": "#c39a62", "walnut": "#6f4a30", "birch": "#e0c79a"}
METALS = {"steel": "#b9bec4", "copper": "#c07a4e", "brass": "#c8a24c"}


def shade(colour, factor):
    """The colour darker (factor < 1) or lighter (> 1), hue kept."""
    r, g, b = (int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5))
    h, lightness, s = colorsys.rgb_to_hls(r, g, b)
    r, g, b = colorsys.hls_to_rgb(h, max(0.0, min(1.0, lightness * factor)), s)
    return "#%02x%02x%02x" % (round(r * 255), round(g * 255), round(b * 255))


def pattern_def(name, colour, second, scale=1.0):
    """SVG <pattern> with id `cloth` for plain, stripes, dots, check, floral or zigzag."""
    size = 24 * scale
    tile = {
        "plain": "",
        "stripes": f'<rect width="24" height="9" fill="{second}"/>',
        "pinstripes": f'<rect width="2" height="24" x="5" fill="{second}"/><rect width="2" height="24" x="17" fill="{second}"/>',
        "dots": f'<circle cx="6" cy="6" r="3.4" fill="{second}"/><circle cx="18" cy="18" r="3.4" fill="{second}"/>',
        "check": f'<rect width="12" height="24" fill="{second}" opacity=".55"/><rect width="24" height="12" fill="{second}" opacity=".55"/>',
        "floral": "".join(
            f'<g transform="translate({x} {y})" fill="{second}"><circle cx="0" cy="-3.4" r="2.7"/><circle cx="3.3" cy="-1" r="2.7"/>'
            f'<circle cx="2" cy="2.9" r="2.7"/><circle cx="-2" cy="2.9" r="2.7"/><circle cx="-3.3" cy="-1" r="2.7"/>'
            f'<circle r="1.8" fill="{shade(colour, .6)}"/></g>' for x, y in ((7, 7), (19, 19))),
        "zigzag": f'<path d="M0 16 L6 6 L12 16 L18 6 L24 16" fill="none" stroke="{second}" stroke-width="4"/>',
    }[name]
    return (f'<pattern id="cloth" width="24" height="24" patternUnits="userSpaceOnUse" '
            f'patternTransform="scale({size / 24:.3f})"><rect width="24" height="24" fill="{colour}"/>{tile}</pattern>')


class Drawing:
    """Collects shapes; every filled shape gets the same shading, so that a catalogue looks like one studio's."""

    def __init__(self, colour, pattern="plain", second=None, scale=1.0):
        self.colour = colour
        self.second = second or shade(colour, .55)
        self.parts = []
        self.defs = [pattern_def(pattern, colour, self.second, scale)]
        self.shapes = 0

    def shape(self, d, fill="url(#cloth)", edge=None, depth=1.0, fill_rule="nonzero"):
        """A closed path: fill, light from the upper left, a thin edge. depth: how round it looks."""
        if edge is None:
            edge = shade(self.colour if fill.startswith("url") else fill, .62)
        self.parts.append(
            f'<path d="{d}" fill="{fill}" fill-rule="{fill_rule}"/>'
            f'<path d="{d}" fill="url(#round)" fill-rule="{fill_rule}" opacity="{depth:.2f}"/>'
            f'<path d="{d}" fill="none" stroke="{edge}" stroke-width="1.6" stroke-linejoin="round"/>')

    def line(self, d, colour=None, width=2.0, dash=None, opacity=1.0):
        dash = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<path d="{d}" fill="none" stroke="{colour or shade(self.colour, .55)}" stroke-width="{width}" '
                          f'stroke-linecap="round" stroke-linejoin="round" opacity="{opacity}"{dash}/>')

    def bar(self, x1, y1, x2, y2, width, colour):
        """A straight leg or tube: a thick line with a highlight along it."""
        self.line(f"M{x1} {y1} L{x2} {y2}", shade(colour, .7), width + 1.6)
        self.line(f"M{x1} {y1} L{x2} {y2}", colour, width)
        self.line(f"M{x1 - width * .2} {y1} L{x2 - width * .2} {y2}", shade(colour, 1.25), width * .25, opacity=.7)

    def disc(self, cx, cy, r, fill):
        self.parts.append(f'<circle cx="{cx}" cy="{cy}" r="{r}" fill="{fill}" stroke="{shade(fill, .6)}"/>')

    def body(self):
        return "".join(self.parts)


GRADIENTS = """
<linearGradient id="round" x1="0" y1="0" x2="1" y2=".35">
 <stop offset="0" stop-color="#fff" stop-opacity=".28"/><stop offset=".35" stop-color="#fff" stop-opacity="0"/>
 <stop offset=".7" stop-color="#000" stop-opacity=".08"/><stop offset="1" stop-color="#000" stop-opacity=".34"/>
</linearGradient>
<filter id="soft" x="-50%" y="-200%" width="200%" height="500%"><feGaussianBlur stdDeviation="9"/></filter>
"""


def packshot(drawing, backdrop, shadow=(200, 352, 120, 14), zoom=1.0, turn=0.0):
    """The drawing on a seamless pale backdrop with a soft shadow below it."""
    x, y, rx, ry = shadow
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 400" width="400" height="400">
<defs>{GRADIENTS}{"".join(drawing.defs)}
<radialGradient id="back" cx=".45" cy=".38" r=".8"><stop offset="0" stop-color="{shade(backdrop, 1.03)}"/>
<stop offset="1" stop-color="{shade(backdrop, .93)}"/></radialGradient></defs>
<rect width="400" height="400" fill="url(#back)"/>
<g transform="translate(200 200) rotate({turn:.1f}) scale({zoom:.3f}) translate(-200 -200)">
<ellipse cx="{x}" cy="{y}" rx="{rx}" ry="{ry}" fill="#000" opacity=".3" filter="url(#soft)"/>{drawing.body()}</g></svg>"""


def scene(drawing, wall, floor, shadow=(200, 352, 120, 14), zoom=.8, turn=0.0, skew=0.0, squeeze=1.0, light=1.0, seed=1):
    """The drawing as a customer might photograph it: in a room, turned, seen from the side, dim or warm light, noise."""
    x, y, rx, ry = shadow
    tint = "#000" if light < 1 else "#ffd9a0"
    strength = abs(1 - light)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 400" width="640" height="480" preserveAspectRatio="xMidYMid slice">
<defs>{GRADIENTS}{"".join(drawing.defs)}
<linearGradient id="wall" x1="0" y1="0" x2="1" y2="1"><stop offset="0" stop-color="{shade(wall, 1.12)}"/><stop offset="1" stop-color="{shade(wall, .8)}"/></linearGradient>
<filter id="noise" x="0" y="0" width="100%" height="100%"><feTurbulence type="fractalNoise" baseFrequency=".9" numOctaves="2" seed="{seed}"/>
<feColorMatrix values="0 0 0 0 .5  0 0 0 0 .5  0 0 0 0 .5  .9 0 0 0 -.3"/></filter></defs>
<rect width="400" height="400" fill="url(#wall)"/>
<path d="M0 318 H400 V400 H0 Z" fill="{floor}"/><path d="M0 318 H400" stroke="{shade(floor, .7)}" stroke-width="3"/>
<path d="M30 40 H120 V140 H30 Z" fill="{shade(wall, 1.3)}" stroke="{shade(wall, .6)}" stroke-width="5"/>
<g transform="translate(205 205) rotate({turn:.1f}) skewX({skew:.1f}) scale({zoom * squeeze:.3f} {zoom:.3f}) translate(-200 -200)">
<ellipse cx="{x + 16}" cy="{y + 4}" rx="{rx * 1.1}" ry="{ry * 1.3}" fill="#000" opacity=".4" filter="url(#soft)"/>{drawing.body()}</g>
<rect width="400" height="400" fill="{tint}" opacity="{strength:.2f}"/>
<rect width="400" height="400" filter="url(#noise)" opacity=".16"/></svg>"""
