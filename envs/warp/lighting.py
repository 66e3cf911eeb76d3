"""Light on textures as MuJoCo's own renderer has it, and what mujoco_warp 3.17 does otherwise.

OpenGL's fixed pipeline lights a surface in its material's colour, cuts the sum off at white, and only then colours it
by the texture. mujoco_warp colours by the texture first: highlights on a dark floor are as bright as on a white one,
and light beyond white, of which dm_control's lamps give plenty, goes on brightening it.

MuJoCo adds up ambient light and the headlight, and then each lamp that casts shadows in a pass of its own; each pass is
cut off by itself.
"""

# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportInvalidTypeForm=false
# pyright: reportReturnType=false, reportAttributeAccessIssue=false
# (a Warp function's annotations are no types; mujoco is compiled and brings none)

import copy

import mujoco
import numpy as np
import warp as wp

_DULL = 1e-6  # in place of no highlight at all, which has no sign


def mark_textured(model: mujoco.MjModel) -> mujoco.MjModel:
    """A copy whose white textured materials have their highlight's strength negated, for the lighting to know them.

    White ones alone, since the lighting learns no colour: it would have to be cut off in the material's.
    """
    model = copy.copy(model)
    texture = model.mat_texid[:, int(mujoco.mjtTextureRole.mjTEXROLE_RGB)]
    textured = (texture >= 0) & (model.mat_rgba[:, :3] == 1).all(axis=1)
    model.mat_specular[textured] = -np.maximum(model.mat_specular[textured], _DULL)
    return model


def cut_off_at_white(plain: wp.Function, headroom: wp.vec3) -> wp.Function:
    """Lighting for a kernel of mujoco_warp's: as OpenGL has it on marked materials, unchanged on others.

    Args:
        plain: mujoco_warp's `compute_lighting`.
        headroom: what ambient light leaves below white.
    """

    # The arguments are those that mujoco_warp's kernel passes, in its order.
    @wp.func
    def compute_lighting(
        geom_type: wp.array[int],
        geom_dataid: wp.array2d[int],
        geom_matid: wp.array2d[int],
        geom_size: wp.array2d[wp.vec3],
        geom_rgba: wp.array2d[wp.vec4],
        flex_vertadr: wp.array[int],
        flex_edge: wp.array[wp.vec2i],
        flex_radius: wp.array[float],
        mat_rgba: wp.array2d[wp.vec4],
        geom_xpos_in: wp.array2d[wp.vec3],
        geom_xmat_in: wp.array2d[wp.mat33],
        flexvert_xpos_in: wp.array2d[wp.vec3],
        use_shadows: bool,
        bvh_id: wp.uint64,
        group_root: int,
        bvh_ngeom: int,
        bvh_nflexgeom: int,
        enabled_geom_ids: wp.array[int],
        worldid: int,
        mesh_bvh_id: wp.array[wp.uint64],
        hfield_bvh_id: wp.array[wp.uint64],
        flex_rgba: wp.array[wp.vec4],
        flex_geom_flexid: wp.array[int],
        flex_geom_edgeid: wp.array[int],
        flex_bvh_id: wp.array[wp.uint64],
        flex_group_root: wp.array2d[int],
        lightactive: bool,
        lighttype: int,
        lightcastshadow: bool,
        lightpos: wp.vec3,
        lightdir: wp.vec3,
        lightattenuation: wp.vec3,
        lightcutoff_rad: float,
        lightexp: float,
        lightdiff: wp.vec3,
        lightspec: wp.vec3,
        normal: wp.vec3,
        hitpoint: wp.vec3,
        view_dir: wp.vec3,
        mat_spec: float,
        mat_shin_exp: float,
        cull_backfaces: bool,
        shadow_light_fraction: float,
        enable_specular: bool,
        default_attenuation: bool,
        has_spot: bool,
    ):
        diffuse, highlight = plain(
            geom_type,
            geom_dataid,
            geom_matid,
            geom_size,
            geom_rgba,
            flex_vertadr,
            flex_edge,
            flex_radius,
            mat_rgba,
            geom_xpos_in,
            geom_xmat_in,
            flexvert_xpos_in,
            use_shadows,
            bvh_id,
            group_root,
            bvh_ngeom,
            bvh_nflexgeom,
            enabled_geom_ids,
            worldid,
            mesh_bvh_id,
            hfield_bvh_id,
            flex_rgba,
            flex_geom_flexid,
            flex_geom_edgeid,
            flex_bvh_id,
            flex_group_root,
            lightactive,
            lighttype,
            lightcastshadow,
            lightpos,
            lightdir,
            lightattenuation,
            lightcutoff_rad,
            lightexp,
            lightdiff,
            lightspec,
            normal,
            hitpoint,
            view_dir,
            wp.abs(mat_spec),
            mat_shin_exp,
            cull_backfaces,
            shadow_light_fraction,
            enable_specular,
            default_attenuation,
            has_spot,
        )
        if mat_spec < 0.0:
            room = wp.vec3(1.0)
            if lighttype == 1 and not lightcastshadow:  # the headlight
                room = wp.static(headroom)
            # The kernel multiplies the first by the texture, and adds the second as it is.
            diffuse = wp.min(diffuse + highlight, room)
            highlight = wp.vec3(0.0)
        return diffuse, highlight

    return compute_lighting
