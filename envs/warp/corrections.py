"""Functions that stand in for mujoco_warp 3.17's in our worlds (`engine` binds them), and why.

Contacts of capsules with planes: MuJoCo lays the first direction of friction along the capsule, however steeply it
stands. mujoco_warp does so only for capsules more than 30 degrees away from the plane's normal, and takes a
fixed axis for the others. Where friction cones are pyramids, as in most of dm_control's models, forces depend on it:
without the correction one of sixty random states of a humanoid, and one of ten of a dog, moved otherwise than in
MuJoCo by more than a ten-thousandth in one control step.

Capsules that cross: the way from one axis to the other is at right angles to both. Where the axes meet, as they do in
hopper's plane, MuJoCo pushes that way, out of the plane, where nothing can move. mujoco_warp pushes from one of two
nearest points to the other: in float32 that is rounding noise where they should be the same, along which one in twenty
random states of a hopper was kicked by metres a second.

The Hessian of models with more than 32 degrees of freedom (humanoid_CMU, dog): mujoco_warp sums it in as many groups
as fill the device, divided by the number of worlds, so that the rounding of a world's sums depends on how many worlds
there are. One thread gains nothing from groups, so the CPU uses one; on a GPU they stay.

Rays that meet round things: where, is the root of a difference of squared distances, from the camera and across the
thing. manipulator's and stacker's camera is 16 m away from a peg half a centimetre thick: in float32 the difference is
rounding noise, and the peg full of holes. So a ray sets out shortly before the thing.
"""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false
# (a Warp function's annotations are no types)

import warp as wp
from mujoco_warp._src.collision_primitive_core import capsule_capsule as _capsule_capsule
from mujoco_warp._src.collision_primitive_core import plane_capsule as _plane_capsule
from mujoco_warp._src.ray import ray_capsule as _ray_capsule
from mujoco_warp._src.ray import ray_cylinder as _ray_cylinder
from mujoco_warp._src.ray import ray_ellipsoid as _ray_ellipsoid
from mujoco_warp._src.ray import ray_sphere as _ray_sphere
from mujoco_warp._src.solver import _jtdaj_groups_per_world


@wp.func
def plane_capsule(normal: wp.vec3, plane: wp.vec3, place: wp.vec3, axis: wp.vec3, radius: float, half_length: float):
    distance, position, frame = _plane_capsule(normal, plane, place, axis, radius, half_length)
    along = axis - wp.dot(normal, axis) * normal
    if wp.length(along) > 1.0e-6:
        along = wp.normalize(along)
        across = wp.cross(normal, along)
        frame = wp.mat33(normal[0], normal[1], normal[2], along[0], along[1], along[2], across[0], across[1], across[2])
    return distance, position, frame


@wp.func
def capsule_capsule(
    place: wp.vec3,
    axis: wp.vec3,
    radius: float,
    half_length: float,
    other_place: wp.vec3,
    other_axis: wp.vec3,
    other_radius: float,
    other_half_length: float,
    margin: float,
):
    distances, positions, normals = _capsule_capsule(
        place, axis, radius, half_length, other_place, other_axis, other_radius, other_half_length, margin
    )
    normal = wp.cross(axis, other_axis)
    sine = wp.length(normal)
    if sine > 1.0e-3:  # below that they count as parallel
        normal = normal / sine
        difference = other_place - place
        # Where each infinite axis is nearest to the other, along it from the capsule's middle.
        along = wp.dot(wp.cross(difference, other_axis), normal) / sine
        other_along = wp.dot(wp.cross(difference, axis), normal) / sine
        if wp.abs(along) < half_length and wp.abs(other_along) < other_half_length:
            apart = wp.dot(difference, normal)
            if apart < -1.0e-6:  # less is noise, of axes that meet
                normal = -normal
            distance = wp.abs(apart) - radius - other_radius
            distances = wp.vec2(wp.inf, wp.inf)
            if distance <= margin:
                distances[0] = distance
                positions[0] = place + along * axis + (radius + 0.5 * distance) * normal
                normals[0] = normal
    return distances, positions, normals


@wp.func
def _way_to(place: wp.vec3, reach: float, start: wp.vec3, direction: wp.vec3):
    """How far along a ray of unit direction a thing cannot be yet of which nothing is farther than `reach` away."""
    return wp.max(0.0, wp.dot(place - start, direction) - 1.1 * reach)


@wp.func
def ray_sphere(place: wp.vec3, squared_radius: float, start: wp.vec3, direction: wp.vec3):
    way = _way_to(place, wp.sqrt(squared_radius), start, direction)
    distance, normal = _ray_sphere(place, squared_radius, start + way * direction, direction)
    return wp.where(distance < 0.0, distance, way + distance), normal


@wp.func
def ray_capsule(place: wp.vec3, turn: wp.mat33, size: wp.vec3, start: wp.vec3, direction: wp.vec3):
    way = _way_to(place, size[0] + size[1], start, direction)
    distance, normal = _ray_capsule(place, turn, size, start + way * direction, direction)
    return wp.where(distance < 0.0, distance, way + distance), normal


@wp.func
def ray_cylinder(place: wp.vec3, turn: wp.mat33, size: wp.vec3, start: wp.vec3, direction: wp.vec3):
    way = _way_to(place, size[0] + size[1], start, direction)
    distance, normal = _ray_cylinder(place, turn, size, start + way * direction, direction)
    return wp.where(distance < 0.0, distance, way + distance), normal


@wp.func
def ray_ellipsoid(place: wp.vec3, turn: wp.mat33, size: wp.vec3, start: wp.vec3, direction: wp.vec3):
    way = _way_to(place, wp.max(size), start, direction)
    distance, normal = _ray_ellipsoid(place, turn, size, start + way * direction, direction)
    return wp.where(distance < 0.0, distance, way + distance), normal


def groups_per_world(num_worlds: int, max_constraints: int, kernel: wp.Kernel) -> int:
    """Groups in which a world's Hessian is summed."""
    return 1 if wp.get_device().is_cpu else _jtdaj_groups_per_world(num_worlds, max_constraints, kernel)
