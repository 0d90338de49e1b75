"""What a rule may import: nothing else of forge is promised to stay."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from forge.analysis.context import Context, location
from forge.core.artifact import Artifact, Derived, Source
from forge.core.base_image import BaseImage
from forge.core.digest import Hash
from forge.core.errors import AnalysisError, Unavailable
from forge.core.image_material import image_blob, image_document
from forge.core.image_name import ImageName
from forge.core.label import Label
from forge.core.lock import EVERY_ARCH, Lock, LockRequest, Material
from forge.core.model_source import (
    FileSource,
    HubSource,
    ImageSource,
    ModelRequest,
    WebSource,
    choose,
    is_commit,
    is_revision,
)
from forge.core.platform import Backend, Parameter, ParameterValue, Platform, Toolchain
from forge.core.provider import AppInfo, BaseInfo, EnvironmentInfo, ImageInfo, ModelInfo, Provider, TestInfo, WheelInfo
from forge.loading.attribute import Attributes, ForExecution, ModelSource, SourceFile, SourceFiles, TargetLabel
from forge.loading.rule_module import rule

__all__ = [
    "EVERY_ARCH",
    "AnalysisError",
    "Annotated",
    "AppInfo",
    "Artifact",
    "Attributes",
    "Backend",
    "BaseImage",
    "BaseInfo",
    "Context",
    "Derived",
    "EnvironmentInfo",
    "Field",
    "FileSource",
    "ForExecution",
    "Hash",
    "HubSource",
    "ImageInfo",
    "ImageName",
    "ImageSource",
    "Label",
    "Literal",
    "Lock",
    "LockRequest",
    "Material",
    "ModelInfo",
    "ModelRequest",
    "ModelSource",
    "Parameter",
    "ParameterValue",
    "Platform",
    "Provider",
    "Source",
    "SourceFile",
    "SourceFiles",
    "TargetLabel",
    "TestInfo",
    "Toolchain",
    "Unavailable",
    "WebSource",
    "WheelInfo",
    "choose",
    "image_blob",
    "image_document",
    "is_commit",
    "is_revision",
    "location",
    "model_validator",
    "rule",
]
